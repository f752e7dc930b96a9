/* A disk under test: kills the process at a named point among the calls that change files below one folder, and can
 * take back what a power cut would have taken. Loaded into the real program by LD_PRELOAD; compiled and driven by
 * kill_points.py. No part of the product.
 *
 * Each change is an operation with a label, "write wal/2026-04-09-night/0…-0001.draft block", which is written to a
 * trace before it is carried out; the label that was reached last is the one the process died at.
 *
 * What a power cut leaves: of every file what its last fsync or fdatasync made durable, of every folder the names its
 * last fsync made durable (what it then held is gone with a name that is not). The disk may have written more than it
 * was asked to: of each sector that was not synced the old or the new bytes, of a folder's changes the first few,
 * whatever it wrote of other folders. A sync in this model means what POSIX promises and no more: that of a file says nothing about its name.
 *
 * Calls the program does not make today are refused loudly: a change that is not seen would be one not taken back.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <pthread.h>
#include <regex.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define SECTOR_BYTES 512
#define SYNC_NS_MAX 400000 /* a good solid-state disk */
#define OPEN_DIRECTORIES_MAX 16

enum phase { NEVER, BEFORE, HALF, AFTER };
enum power { STAYS, TAKES_ALL_UNSYNCED, TAKES_SOME_UNSYNCED };

/* A file with changes that no sync has made durable, and what it was before them. */
struct file {
    dev_t device;
    ino_t inode;
    int descriptor;
    char *durable;
    size_t durable_bytes;
    struct file *next;
};

/* A change of a folder that no sync of the folder has made durable; newest first. */
struct name {
    enum { CREATED, LINKED, UNLINKED, RENAMED, FOLDER_MADE, FOLDER_REMOVED } change;
    char path[PATH_MAX], before[PATH_MAX], kept[PATH_MAX]; /* `kept`: what stood at `path`, under another name */
    dev_t folder_device;
    ino_t folder_inode, inode;
    bool is_judged, stays;
    struct name *older;
};

static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH_MAX], graves[PATH_MAX];
static size_t root_bytes;
static int trace = -1;
static regex_t pattern;
static long matches_left = -1, further_left;
static enum phase phase;
static enum power power;
static bool ignores_syncs;
static __thread bool is_dying; /* its own calls pass; those of other threads wait until the kill */
static uint64_t random_state;
static unsigned graves_dug;
static struct file *files;
static struct name *names;

#define REAL(name) real_##name
#define DECLARE_REAL(result, name, ...) static result (*real_##name)(__VA_ARGS__)
DECLARE_REAL(int, open, const char *, int, ...);
DECLARE_REAL(int, openat, int, const char *, int, ...);
DECLARE_REAL(ssize_t, write, int, const void *, size_t);
DECLARE_REAL(ssize_t, pwrite, int, const void *, size_t, off_t);
DECLARE_REAL(int, ftruncate, int, off_t);
DECLARE_REAL(int, posix_fallocate, int, off_t, off_t);
DECLARE_REAL(int, fsync, int);
DECLARE_REAL(int, fdatasync, int);
DECLARE_REAL(int, renameat, int, const char *, int, const char *);
DECLARE_REAL(int, linkat, int, const char *, int, const char *, int);
DECLARE_REAL(int, unlinkat, int, const char *, int);
DECLARE_REAL(int, mkdirat, int, const char *, mode_t);

static void give_up(const char *what) {
    dprintf(2, "kill_points.c: %s (%s)\n", what, strerror(errno));
    abort();
}

static const char *setting(const char *name) {
    const char *value = getenv(name);
    if (!value) give_up(name);
    return value;
}

__attribute__((constructor)) static void start(void) {
#define FIND_REAL(name) if (!(*(void **)&real_##name = dlsym(RTLD_NEXT, #name))) give_up(#name)
    FIND_REAL(open); FIND_REAL(openat); FIND_REAL(write); FIND_REAL(pwrite); FIND_REAL(ftruncate);
    FIND_REAL(posix_fallocate); FIND_REAL(fsync); FIND_REAL(fdatasync); FIND_REAL(renameat); FIND_REAL(linkat);
    FIND_REAL(unlinkat); FIND_REAL(mkdirat);
    /* Read only here: a program that this one starts is left alone. */
    root_bytes = (size_t)snprintf(root, sizeof root, "%s", setting("KILL_ROOT"));
    snprintf(graves, sizeof graves, "%s", setting("KILL_GRAVES"));
    const char *names_of_phases = "nbha", *found = strchr(names_of_phases, setting("KILL_PHASE")[0]);
    phase = found ? (enum phase)(found - names_of_phases) : NEVER;
    matches_left = atol(setting("KILL_COUNT"));
    further_left = atol(setting("KILL_FURTHER"));
    if (regcomp(&pattern, setting("KILL_PATTERN"), REG_EXTENDED | REG_NOSUB)) give_up("KILL_PATTERN");
    power = (enum power)atoi(setting("KILL_POWER"));
    ignores_syncs = setting("KILL_IGNORES_SYNCS")[0] == '1';
    random_state = (strtoull(setting("KILL_SEED"), NULL, 10) + 1) * 0x9E3779B97F4A7C15ULL;
    trace = REAL(open)(setting("KILL_TRACE"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (trace < 0) give_up("KILL_TRACE");
    unsetenv("LD_PRELOAD");
}

static uint64_t random_below(uint64_t limit) {
    random_state ^= random_state << 13, random_state ^= random_state >> 7, random_state ^= random_state << 17;
    return random_state * 0x2545F4914F6CDD1DULL % limit;
}

/* Which folder or file is meant: an absolute path, not normalised (the program writes none with dots). */
static void absolute(int folder, const char *path, char *out) {
    char link[64], at[PATH_MAX] = "";
    if (path[0] != '/' && folder == AT_FDCWD && !getcwd(at, sizeof at)) give_up("getcwd");
    if (path[0] != '/' && folder != AT_FDCWD) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        if (readlink(link, at, sizeof at - 1) < 0) give_up("a folder that is not open");
    }
    if (snprintf(out, PATH_MAX, path[0] == '/' ? "%s%s" : "%s/%s", at, path) >= PATH_MAX) give_up("a path too long");
}

static bool is_ours(const char *path) {
    return root_bytes && !is_dying && !strncmp(path, root, root_bytes) && (path[root_bytes] == '/' || !path[root_bytes]);
}

/* The path of an open file, if it is ours; a draft that got its name is still called a draft. */
static bool our_file(int descriptor, char *path) {
    char link[64];
    if (!root_bytes || is_dying || descriptor < 0) return false;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t bytes = readlink(link, path, PATH_MAX - 1);
    if (bytes < 0) return false;
    path[bytes] = 0;
    char *deleted = strstr(path, " (deleted)");
    if (deleted) *deleted = 0;
    return is_ours(path);
}

/* ── What a power cut takes back ── */

static int open_again(int descriptor) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    int again = REAL(open)(link, O_RDWR | O_CLOEXEC);
    if (again < 0) give_up("a file cannot be opened again");
    return again;
}

/* Before a file is changed for the first time since its last sync. */
static void keep_contents(int descriptor) {
    struct stat found;
    if (!power || fstat(descriptor, &found) || !S_ISREG(found.st_mode)) return;
    for (struct file *file = files; file; file = file->next)
        if (file->device == found.st_dev && file->inode == found.st_ino) return;
    struct file *file = calloc(1, sizeof *file);
    *file = (struct file){.device = found.st_dev, .inode = found.st_ino, .descriptor = open_again(descriptor),
                          .durable = malloc((size_t)found.st_size + 1), .durable_bytes = (size_t)found.st_size,
                          .next = files};
    if (pread(file->descriptor, file->durable, file->durable_bytes, 0) != found.st_size) give_up("reading a file");
    files = file;
}

static void contents_are_durable(const struct stat *synced) {
    for (struct file **at = &files; *at; at = &(*at)->next) {
        struct file *file = *at;
        if (file->device != synced->st_dev || file->inode != synced->st_ino) continue;
        *at = file->next;
        close(file->descriptor), free(file->durable), free(file);
        return;
    }
}

static void names_are_durable(const struct stat *synced) {
    for (struct name **at = &names; *at;) {
        struct name *name = *at;
        if (name->folder_device != synced->st_dev || name->folder_inode != synced->st_ino) {
            at = &name->older;
            continue;
        }
        *at = name->older;
        free(name);
    }
}

static void is_durable(int descriptor) {
    struct stat synced;
    if (!power || ignores_syncs || fstat(descriptor, &synced)) return;
    if (S_ISDIR(synced.st_mode)) names_are_durable(&synced);
    else contents_are_durable(&synced);
}

/* Before a name is changed. What stands at `path` is kept under another name, to be put back. */
static struct name *keep_name(int change, const char *path, const char *before) {
    if (!power) return NULL;
    struct name *name = calloc(1, sizeof *name);
    struct stat folder, found;
    name->change = change;
    snprintf(name->path, sizeof name->path, "%s", path);
    snprintf(name->before, sizeof name->before, "%s", before);
    char above[PATH_MAX];
    snprintf(above, sizeof above, "%s", path);
    *strrchr(above, '/') = 0;
    if (stat(above, &folder)) give_up("a folder that is not there");
    name->folder_device = folder.st_dev, name->folder_inode = folder.st_ino;
    bool replaces = (change == UNLINKED || change == RENAMED) && !lstat(path, &found) && !S_ISDIR(found.st_mode);
    if (replaces) {
        snprintf(name->kept, sizeof name->kept, "%.4000s/%d-%u", graves, getpid(), graves_dug++);
        if (REAL(linkat)(AT_FDCWD, path, AT_FDCWD, name->kept, 0)) give_up("a file cannot be kept");
    }
    return name;
}

/* After it: only what succeeded is to be taken back. */
static void name_changed(struct name *name, bool succeeded) {
    struct stat found;
    if (!name) return;
    if (!succeeded) {
        free(name);
        return;
    }
    if (!lstat(name->path, &found)) name->inode = found.st_ino;
    name->older = names, names = name;
}

static void put_back_contents(struct file *file) {
    struct stat found;
    if (fstat(file->descriptor, &found)) give_up("fstat");
    size_t now_bytes = (size_t)found.st_size, bytes = file->durable_bytes;
    if (power == TAKES_SOME_UNSYNCED && random_below(2)) bytes = now_bytes;
    char *left = calloc(1, bytes + SECTOR_BYTES), *now = calloc(1, now_bytes + SECTOR_BYTES);
    if (pread(file->descriptor, now, now_bytes, 0) < 0) give_up("reading a file");
    for (size_t at = 0; at < bytes; at += SECTOR_BYTES) {
        bool written = power == TAKES_SOME_UNSYNCED && random_below(2);
        const char *from = written ? now : file->durable;
        size_t from_bytes = written ? now_bytes : file->durable_bytes;
        if (at >= from_bytes) continue; /* never written there: zeros */
        size_t count = from_bytes - at < SECTOR_BYTES ? from_bytes - at : SECTOR_BYTES;
        memcpy(left + at, from + at, count < bytes - at ? count : bytes - at);
    }
    if (REAL(ftruncate)(file->descriptor, (off_t)bytes)) give_up("ftruncate");
    if (REAL(pwrite)(file->descriptor, left, bytes, 0) != (ssize_t)bytes) give_up("putting a file back");
}

static int remove_one(const char *path, const struct stat *found, int kind, struct FTW *place) {
    (void)found, (void)place;
    return REAL(unlinkat)(AT_FDCWD, path, kind == FTW_DP ? AT_REMOVEDIR : 0);
}

static void make_folder_again(const struct name *removed) {
    struct stat made;
    if (REAL(mkdirat)(AT_FDCWD, removed->path, 0755) || lstat(removed->path, &made)) return; /* nor is its parent there */
    for (struct name *older = removed->older; older; older = older->older)
        if (older->change == FOLDER_MADE && !strcmp(older->path, removed->path)) older->inode = made.st_ino;
}

static void take_back_name(const struct name *name) {
    struct stat found;
    bool is_there = !lstat(name->path, &found), is_same = is_there && found.st_ino == name->inode;
    if (name->change == FOLDER_MADE && is_same) nftw(name->path, remove_one, OPEN_DIRECTORIES_MAX, FTW_DEPTH | FTW_PHYS);
    if ((name->change == CREATED || name->change == LINKED) && is_same) REAL(unlinkat)(AT_FDCWD, name->path, 0);
    bool is_back = name->change != RENAMED || !is_same || !REAL(renameat)(AT_FDCWD, name->path, AT_FDCWD, name->before);
    if (!is_back) REAL(unlinkat)(AT_FDCWD, name->path, 0); /* the folder it came from is gone for good */
    if (name->change == FOLDER_REMOVED && !is_there) make_folder_again(name);
    if (name->kept[0]) REAL(linkat)(AT_FDCWD, name->kept, AT_FDCWD, name->path, 0);
}

static bool is_in_folder_of(const struct name *one, const struct name *other) {
    return one->folder_device == other->folder_device && one->folder_inode == other->folder_inode;
}

/* Of the changes of one folder the first few stay; which of another folder's do, has nothing to do with it. */
static void choose_names_that_stay(void) {
    for (struct name *name = names; name; name = name->older) {
        if (name->is_judged) continue;
        uint64_t count = 0, gone;
        for (struct name *same = name; same; same = same->older) count += is_in_folder_of(same, name);
        gone = random_below(count + 1);
        for (struct name *same = name; same; same = same->older) {
            if (!is_in_folder_of(same, name)) continue;
            same->is_judged = true;
            same->stays = !gone;
            if (gone) gone--;
        }
    }
}

static void cut_power(void) {
    for (struct file *file = files; file; file = file->next) put_back_contents(file);
    if (power == TAKES_SOME_UNSYNCED) choose_names_that_stay();
    for (struct name *name = names; name; name = name->older)
        if (!name->stays) take_back_name(name);
}

static void die(void) {
    is_dying = true;
    if (power) cut_power();
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

/* ── The point ── */

/* Tells of an operation and whether the process dies at it; nobody else does one until `leave`. */
static enum phase enter(const char *verb, const char *path, const char *what) {
    char label[PATH_MAX + 64];
    pthread_mutex_lock(&one_at_a_time);
    const char *relative = path[root_bytes] ? path + root_bytes + 1 : ".";
    int bytes = snprintf(label, sizeof label, "%s %.4000s%s%s\n", verb, relative, what[0] ? " " : "", what);
    if (REAL(write)(trace, label, (size_t)bytes) != bytes) give_up("the trace cannot be written");
    label[bytes - 1] = 0;
    if (phase == NEVER) return NEVER;
    if (matches_left > 0 && !regexec(&pattern, label, 0, NULL, 0)) matches_left--;
    if (matches_left > 0 || further_left-- > 0) return NEVER;
    if (phase == BEFORE) die();
    return phase;
}

static void leave(enum phase reached) {
    int error = errno;
    if (reached != NEVER) die();
    pthread_mutex_unlock(&one_at_a_time);
    errno = error;
}

static const char *what_is_written(const char *bytes, size_t count) {
    static const struct { const char *begins, *is; } kinds[] = {
        {"SBLK", "block"}, {"SEND", "footer"}, {"SHIJIMW1", "header"}, {"\0\0\0\0", "zeros"}};
    for (size_t at = 0; at < sizeof kinds / sizeof *kinds; at++)
        if (count >= 4 && !memcmp(bytes, kinds[at].begins, 4)) return kinds[at].is;
    return "";
}

static size_t part_of(size_t count, enum phase reached) {
    return reached == HALF && count > 1 ? 1 + (size_t)random_below(count - 1) : count;
}

/* ── The calls ── */

static int opened(int folder, const char *name, int flags, mode_t mode) {
    char path[PATH_MAX];
    struct stat found;
    if (!(flags & (O_CREAT | O_TRUNC)) || !root_bytes || is_dying) return REAL(openat)(folder, name, flags, mode);
    absolute(folder, name, path);
    if (!is_ours(path)) return REAL(openat)(folder, name, flags, mode);
    bool is_there = !lstat(path, &found);
    if (is_there && !(flags & O_TRUNC && found.st_size)) return REAL(openat)(folder, name, flags, mode);
    enum phase reached = enter(is_there ? "empty" : "create", path, "");
    int before = is_there && power ? REAL(open)(path, O_RDWR | O_CLOEXEC) : -1;
    if (before >= 0) keep_contents(before), close(before);
    struct name *changed = is_there ? NULL : keep_name(CREATED, path, "");
    int descriptor = REAL(openat)(folder, name, flags, mode);
    name_changed(changed, descriptor >= 0);
    if (descriptor >= 0 && !is_there) keep_contents(descriptor);
    leave(reached);
    return descriptor;
}

#define MODE_OF(flags, mode) va_list more; va_start(more, flags); \
    mode_t mode = (flags) & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0; va_end(more)
int open(const char *name, int flags, ...) { MODE_OF(flags, mode); return opened(AT_FDCWD, name, flags, mode); }
int open64(const char *name, int flags, ...) { MODE_OF(flags, mode); return opened(AT_FDCWD, name, flags, mode); }
int openat(int at, const char *name, int flags, ...) { MODE_OF(flags, mode); return opened(at, name, flags, mode); }
int openat64(int at, const char *name, int flags, ...) { MODE_OF(flags, mode); return opened(at, name, flags, mode); }

ssize_t write(int descriptor, const void *bytes, size_t count) {
    char path[PATH_MAX];
    if (!our_file(descriptor, path)) return REAL(write)(descriptor, bytes, count);
    enum phase reached = enter("write", path, what_is_written(bytes, count));
    keep_contents(descriptor);
    ssize_t written = REAL(write)(descriptor, bytes, part_of(count, reached));
    leave(reached);
    return written;
}

ssize_t pwrite(int descriptor, const void *bytes, size_t count, off_t position) {
    char path[PATH_MAX];
    if (!our_file(descriptor, path)) return REAL(pwrite)(descriptor, bytes, count, position);
    enum phase reached = enter("write", path, what_is_written(bytes, count));
    keep_contents(descriptor);
    ssize_t written = REAL(pwrite)(descriptor, bytes, part_of(count, reached), position);
    leave(reached);
    return written;
}
ssize_t pwrite64(int descriptor, const void *bytes, size_t count, off64_t position) {
    return pwrite(descriptor, bytes, count, position);
}

int ftruncate(int descriptor, off_t bytes) {
    char path[PATH_MAX];
    if (!our_file(descriptor, path)) return REAL(ftruncate)(descriptor, bytes);
    enum phase reached = enter("resize", path, "");
    keep_contents(descriptor);
    int result = REAL(ftruncate)(descriptor, bytes);
    leave(reached);
    return result;
}
int ftruncate64(int descriptor, off64_t bytes) { return ftruncate(descriptor, bytes); }

int posix_fallocate(int descriptor, off_t from, off_t bytes) {
    char path[PATH_MAX];
    if (!our_file(descriptor, path)) return REAL(posix_fallocate)(descriptor, from, bytes);
    enum phase reached = enter("allocate", path, "");
    keep_contents(descriptor);
    int result = REAL(posix_fallocate)(descriptor, from, bytes);
    leave(reached);
    return result;
}
int posix_fallocate64(int descriptor, off64_t from, off64_t bytes) { return posix_fallocate(descriptor, from, bytes); }

/* The kernel keeps what a killed process gave it, synced or not, and what a power cut takes is modelled here: so a sync
 * only takes the time of one. */
#define SYNC(call) \
    int call(int descriptor) { \
        char path[PATH_MAX]; \
        if (!our_file(descriptor, path)) return REAL(call)(descriptor); \
        enum phase reached = enter(#call, path, ""); \
        nanosleep(&(struct timespec){.tv_nsec = (long)random_below(SYNC_NS_MAX)}, NULL); \
        is_durable(descriptor); \
        leave(reached); \
        return 0; \
    }
SYNC(fsync)
SYNC(fdatasync)

int renameat(int old_folder, const char *old, int new_folder, const char *new) {
    char from[PATH_MAX], to[PATH_MAX];
    absolute(old_folder, old, from), absolute(new_folder, new, to);
    if (!is_ours(to) && !is_ours(from)) return REAL(renameat)(old_folder, old, new_folder, new);
    enum phase reached = enter("rename", to, "");
    struct name *changed = keep_name(RENAMED, to, from);
    int result = REAL(renameat)(AT_FDCWD, from, AT_FDCWD, to);
    name_changed(changed, !result);
    leave(reached);
    return result;
}
int rename(const char *old, const char *new) { return renameat(AT_FDCWD, old, AT_FDCWD, new); }

int linkat(int old_folder, const char *old, int new_folder, const char *new, int flags) {
    char path[PATH_MAX];
    absolute(new_folder, new, path);
    if (!is_ours(path)) return REAL(linkat)(old_folder, old, new_folder, new, flags);
    enum phase reached = enter("link", path, "");
    struct name *changed = keep_name(LINKED, path, "");
    int result = REAL(linkat)(old_folder, old, AT_FDCWD, path, flags);
    name_changed(changed, !result);
    leave(reached);
    return result;
}
int link(const char *old, const char *new) { return linkat(AT_FDCWD, old, AT_FDCWD, new, 0); }

int unlinkat(int folder, const char *name, int flags) {
    char path[PATH_MAX];
    absolute(folder, name, path);
    if (!is_ours(path)) return REAL(unlinkat)(folder, name, flags);
    bool is_folder = flags & AT_REMOVEDIR;
    enum phase reached = enter(is_folder ? "rmdir" : "unlink", path, "");
    struct stat found;
    bool is_there = !lstat(path, &found);
    struct name *changed = is_there ? keep_name(is_folder ? FOLDER_REMOVED : UNLINKED, path, "") : NULL;
    int result = REAL(unlinkat)(AT_FDCWD, path, flags);
    name_changed(changed, !result);
    leave(reached);
    return result;
}
int unlink(const char *name) { return unlinkat(AT_FDCWD, name, 0); }
int rmdir(const char *name) { return unlinkat(AT_FDCWD, name, AT_REMOVEDIR); }

int mkdirat(int folder, const char *name, mode_t mode) {
    char path[PATH_MAX];
    struct stat found;
    absolute(folder, name, path);
    if (!is_ours(path) || !lstat(path, &found)) return REAL(mkdirat)(folder, name, mode);
    enum phase reached = enter("mkdir", path, "");
    char above[PATH_MAX];
    snprintf(above, sizeof above, "%s", path);
    *strrchr(above, '/') = 0;
    struct name *changed = lstat(above, &found) ? NULL : keep_name(FOLDER_MADE, path, "");
    int result = REAL(mkdirat)(AT_FDCWD, path, mode);
    name_changed(changed, !result);
    leave(reached);
    return result;
}
int mkdir(const char *name, mode_t mode) { return mkdirat(AT_FDCWD, name, mode); }

/* ── What would not be seen ── */

#define REFUSED(result, call, parameters, arguments, is_change) \
    result call parameters { \
        static result (*real) parameters; \
        if (!real && !(*(void **)&real = dlsym(RTLD_NEXT, #call))) give_up(#call); \
        char path[PATH_MAX]; \
        (void)path; \
        if (is_change) give_up("a change by " #call ", which kill_points.c does not know yet"); \
        return real arguments; \
    }
REFUSED(ssize_t, writev, (int d, const struct iovec *v, int n), (d, v, n), our_file(d, path))
REFUSED(ssize_t, pwritev, (int d, const struct iovec *v, int n, off_t at), (d, v, n, at), our_file(d, path))
REFUSED(ssize_t, sendfile, (int d, int from, off_t *at, size_t n), (d, from, at, n), our_file(d, path))
REFUSED(ssize_t, sendfile64, (int d, int from, off64_t *at, size_t n), (d, from, at, n), our_file(d, path))
REFUSED(ssize_t, copy_file_range, (int from, off64_t *a, int d, off64_t *b, size_t n, unsigned f),
        (from, a, d, b, n, f), our_file(d, path))
REFUSED(int, fallocate, (int d, int mode, off_t at, off_t n), (d, mode, at, n), our_file(d, path))
REFUSED(int, truncate, (const char *name, off_t n), (name, n), (absolute(AT_FDCWD, name, path), is_ours(path)))
REFUSED(int, symlink, (const char *to, const char *name), (to, name), (absolute(AT_FDCWD, name, path), is_ours(path)))

/* ── In the callback, where no file is touched ── */

/* The process is killed so many ns from now, wherever its threads then are. */
int kill_in_ns(long ns) {
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGKILL};
    struct itimerspec due = {.it_value = {.tv_nsec = ns}};
    return timer_create(CLOCK_MONOTONIC, &event, &timer) || timer_settime(timer, 0, &due, NULL);
}
