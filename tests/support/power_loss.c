/* Loaded into a process with LD_PRELOAD: notes in a log what the process changes below one directory, in the
 * order in which the kernel saw it, and what it forces to the disk. Read by power_loss.py. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { CREATE, WRITE, TRUNCATE, SYNC, SYNC_DIRECTORY, RENAME, UNLINK, MKDIR, RMDIR };

struct head {
    uint32_t op, path_bytes, other_bytes, padding;
    uint64_t inode, offset, data_bytes;
};

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static const char *below;
static int log_fd = -1;
static char is_ours[65536]; /* by file descriptor */

__attribute__((constructor)) static void begin(void) {
    const char *log = getenv("TAXI_TEST_POWER_LOG");
    below = getenv("TAXI_TEST_POWER_BELOW");
    if (log && below)
        log_fd = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
}

static void note(uint32_t op, uint64_t inode, uint64_t offset, const char *path, const char *other,
                 const struct iovec *data, int pieces, size_t data_bytes) {
    struct head head = {op, path ? strlen(path) : 0, other ? strlen(other) : 0, 0, inode, offset, data_bytes};
    int saved = errno;
    syscall(SYS_write, log_fd, &head, sizeof head);
    if (path) syscall(SYS_write, log_fd, path, head.path_bytes);
    if (other) syscall(SYS_write, log_fd, other, head.other_bytes);
    for (int at = 0; at < pieces && data_bytes; at++) {
        size_t bytes = data[at].iov_len < data_bytes ? data[at].iov_len : data_bytes;
        syscall(SYS_write, log_fd, data[at].iov_base, bytes);
        data_bytes -= bytes;
    }
    errno = saved;
}

/* The absolute path, if it is below the directory; else NULL. */
static const char *watched(int directory, const char *path, char *whole) {
    if (log_fd < 0 || !path) return NULL;
    if (*path == '/') {
        snprintf(whole, PATH_MAX, "%s", path);
    } else {
        char link[64], base[PATH_MAX];
        if (directory == AT_FDCWD) strcpy(link, "/proc/self/cwd");
        else snprintf(link, sizeof link, "/proc/self/fd/%d", directory);
        ssize_t bytes = readlink(link, base, sizeof base - 1);
        if (bytes < 0) return NULL;
        base[bytes] = 0;
        if (snprintf(whole, PATH_MAX, "%s/%s", base, path) >= PATH_MAX) return NULL;
    }
    size_t bytes = strlen(below);
    return strncmp(whole, below, bytes) == 0 && (!whole[bytes] || whole[bytes] == '/') ? whole : NULL;
}

static int ours(int fd) { return log_fd >= 0 && fd >= 0 && fd < (int)sizeof is_ours && is_ours[fd]; }

static uint64_t inode_of(int fd) {
    struct stat found;
    return fstat(fd, &found) ? 0 : found.st_ino;
}

static int open_file(int directory, const char *path, int flags, mode_t mode) {
    char buffer[PATH_MAX];
    const char *whole = watched(directory, path, buffer);
    if (!whole) return syscall(SYS_openat, directory, path, flags, mode);
    pthread_mutex_lock(&turn);
    int existed = syscall(SYS_faccessat, AT_FDCWD, whole, F_OK) == 0;
    int fd = syscall(SYS_openat, directory, path, flags, mode);
    if (fd >= 0 && fd < (int)sizeof is_ours) {
        is_ours[fd] = 1;
        if (!existed) note(CREATE, inode_of(fd), 0, whole, NULL, NULL, 0, 0);
        else if (flags & O_TRUNC) note(TRUNCATE, inode_of(fd), 0, NULL, NULL, NULL, 0, 0);
    }
    pthread_mutex_unlock(&turn);
    return fd;
}

#define MODE(flags) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | O_TMPFILE)) { \
        va_list rest; \
        va_start(rest, flags); \
        mode = va_arg(rest, mode_t); \
        va_end(rest); \
    }

int open(const char *path, int flags, ...) { MODE(flags) return open_file(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags) return open_file(AT_FDCWD, path, flags | O_LARGEFILE, mode); }
int openat(int at, const char *path, int flags, ...) { MODE(flags) return open_file(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE(flags) return open_file(at, path, flags | O_LARGEFILE, mode); }
int __open_2(const char *path, int flags) { return open_file(AT_FDCWD, path, flags, 0); }
int __open64_2(const char *path, int flags) { return open_file(AT_FDCWD, path, flags, 0); }
int creat(const char *path, mode_t mode) { return open_file(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return creat(path, mode); }

int close(int fd) {
    if (ours(fd)) is_ours[fd] = 0;
    return syscall(SYS_close, fd);
}

static ssize_t write_pieces(int fd, const struct iovec *data, int pieces, off_t at) {
    if (!ours(fd))
        return at < 0 ? syscall(SYS_writev, fd, data, pieces) : syscall(SYS_pwritev, fd, data, pieces, at, 0);
    pthread_mutex_lock(&turn);
    ssize_t bytes = at < 0 ? syscall(SYS_writev, fd, data, pieces) : syscall(SYS_pwritev, fd, data, pieces, at, 0);
    if (bytes > 0) {
        off_t start = at < 0 ? (off_t)syscall(SYS_lseek, fd, 0, SEEK_CUR) - bytes : at;
        note(WRITE, inode_of(fd), start, NULL, NULL, data, pieces, bytes);
    }
    pthread_mutex_unlock(&turn);
    return bytes;
}

ssize_t write(int fd, const void *data, size_t bytes) {
    struct iovec piece = {(void *)data, bytes};
    return ours(fd) ? write_pieces(fd, &piece, 1, -1) : syscall(SYS_write, fd, data, bytes);
}
ssize_t pwrite(int fd, const void *data, size_t bytes, off_t at) {
    struct iovec piece = {(void *)data, bytes};
    return write_pieces(fd, &piece, 1, at);
}
ssize_t pwrite64(int fd, const void *data, size_t bytes, off_t at) { return pwrite(fd, data, bytes, at); }
ssize_t writev(int fd, const struct iovec *data, int pieces) { return write_pieces(fd, data, pieces, -1); }
ssize_t pwritev(int fd, const struct iovec *data, int pieces, off_t at) { return write_pieces(fd, data, pieces, at); }
ssize_t pwritev64(int fd, const struct iovec *data, int pieces, off_t at) { return write_pieces(fd, data, pieces, at); }

/* A call that may change the length of a file. */
#define RESIZE(fd, call) \
    if (!ours(fd)) return call; \
    pthread_mutex_lock(&turn); \
    int failed = call; \
    struct stat found; \
    if (!failed && !fstat(fd, &found)) note(TRUNCATE, found.st_ino, found.st_size, NULL, NULL, NULL, 0, 0); \
    pthread_mutex_unlock(&turn); \
    return failed;

int ftruncate(int fd, off_t bytes) { RESIZE(fd, syscall(SYS_ftruncate, fd, bytes)) }
int ftruncate64(int fd, off_t bytes) { return ftruncate(fd, bytes); }
int fallocate(int fd, int how, off_t at, off_t bytes) { RESIZE(fd, syscall(SYS_fallocate, fd, how, at, bytes)) }
int fallocate64(int fd, int how, off_t at, off_t bytes) { return fallocate(fd, how, at, bytes); }
int posix_fallocate(int fd, off_t at, off_t bytes) { return fallocate(fd, 0, at, bytes) ? errno : 0; }
int posix_fallocate64(int fd, off_t at, off_t bytes) { return posix_fallocate(fd, at, bytes); }

static int sync_file(int fd, long call) {
    if (!ours(fd)) return syscall(call, fd);
    pthread_mutex_lock(&turn);
    int failed = syscall(call, fd);
    struct stat found;
    if (!failed && !fstat(fd, &found)) {
        char link[64], path[PATH_MAX];
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t bytes = readlink(link, path, sizeof path - 1);
        if (bytes >= 0) {
            path[bytes] = 0;
            note(S_ISDIR(found.st_mode) ? SYNC_DIRECTORY : SYNC, found.st_ino, 0, path, NULL, NULL, 0, 0);
        }
    }
    pthread_mutex_unlock(&turn);
    return failed;
}

int fsync(int fd) { return sync_file(fd, SYS_fsync); }
int fdatasync(int fd) { return sync_file(fd, SYS_fdatasync); }

/* A call that changes the names in a directory. */
static int change_names(uint32_t op, int from_at, const char *from, int to_at, const char *to, int flags, mode_t mode) {
    char buffer[PATH_MAX], other_buffer[PATH_MAX];
    const char *path = watched(from_at, from, buffer);
    const char *other = to ? watched(to_at, to, other_buffer) : NULL;
    if (path || other) pthread_mutex_lock(&turn);
    int failed = op == RENAME   ? syscall(SYS_renameat2, from_at, from, to_at, to, flags)
                 : op == MKDIR  ? syscall(SYS_mkdirat, from_at, from, mode)
                                : syscall(SYS_unlinkat, from_at, from, flags);
    if (path || other) {
        if (!failed) note(op, 0, 0, path, other, NULL, 0, 0);
        pthread_mutex_unlock(&turn);
    }
    return failed;
}

int rename(const char *from, const char *to) { return change_names(RENAME, AT_FDCWD, from, AT_FDCWD, to, 0, 0); }
int renameat(int a, const char *from, int b, const char *to) { return change_names(RENAME, a, from, b, to, 0, 0); }
int renameat2(int a, const char *from, int b, const char *to, unsigned flags) { return change_names(RENAME, a, from, b, to, flags, 0); }
int unlink(const char *path) { return change_names(UNLINK, AT_FDCWD, path, 0, NULL, 0, 0); }
int unlinkat(int at, const char *path, int flags) { return change_names(flags & AT_REMOVEDIR ? RMDIR : UNLINK, at, path, 0, NULL, flags, 0); }
int remove(const char *path) {
    struct stat found;
    return !lstat(path, &found) && S_ISDIR(found.st_mode) ? rmdir(path) : unlink(path);
}
int mkdir(const char *path, mode_t mode) { return change_names(MKDIR, AT_FDCWD, path, 0, NULL, 0, mode); }
int mkdirat(int at, const char *path, mode_t mode) { return change_names(MKDIR, at, path, 0, NULL, 0, mode); }
int rmdir(const char *path) { return change_names(RMDIR, AT_FDCWD, path, 0, NULL, AT_REMOVEDIR, 0); }
