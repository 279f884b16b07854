/* Makes chosen calls on files below one folder fail: the disk that is full, broken or gone. Loaded with LD_PRELOAD. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static const char *armed = "";
static char below[PATH_MAX] = "";
static long countdown = -1;
static int error_number = 0;
static int lasting = 0;
static long seen = 0;

/* Let call number `at` (from 0) of a kind fail with `error`, and with `stays` all later ones too; -1 only counts. */
void faulty_arm(const char *kind, const char *folder, long at, int error, int stays) {
    static char kept[32];
    strncpy(kept, kind, sizeof kept - 1);
    strncpy(below, folder, sizeof below - 1);
    armed = kept;
    countdown = at;
    error_number = error;
    lasting = stays;
    seen = 0;
}

long faulty_seen(void) { return seen; }

static int fails(const char *kind, const char *path) {
    if (strcmp(kind, armed) != 0 || strncmp(path, below, strlen(below)) != 0) return 0;
    long number = seen++;
    if (countdown < 0 || number < countdown || (number > countdown && !lasting)) return 0;
    errno = error_number;
    return 1;
}

static const char *path_of(int descriptor) {
    static __thread char path[PATH_MAX];
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    path[length < 0 ? 0 : length] = 0;
    return path;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int descriptor, const void *data, size_t count) {
    if (*armed && fails("write", path_of(descriptor))) return -1;
    return REAL(write)(descriptor, data, count);
}

int fsync(int descriptor) {
    if (*armed && fails("fsync", path_of(descriptor))) return -1;
    return REAL(fsync)(descriptor);
}

int rename(const char *from, const char *to) {
    if (*armed && fails("rename", to)) return -1;
    return REAL(rename)(from, to);
}

int renameat(int from_folder, const char *from, int to_folder, const char *to) {
    if (*armed && fails("rename", to)) return -1;
    return REAL(renameat)(from_folder, from, to_folder, to);
}

int mkdir(const char *path, mode_t mode) {
    if (*armed && fails("mkdir", path)) return -1;
    return ((int (*)(const char *, mode_t))dlsym(RTLD_NEXT, "mkdir"))(path, mode);
}
