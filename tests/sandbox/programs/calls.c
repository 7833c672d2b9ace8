/* Makes every caught call on the path given, raw where libc would choose another, and prints what came:
   calls PATH LINK → one line per call. Static, so that nothing but system calls can be caught. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>

struct how { /* struct open_how; musl has no kernel headers */
    unsigned long long flags, mode, resolve;
};

struct extended { /* struct statx as far as it is printed */
    char before[40];
    long long size;
    char between[64];
    long long seconds;
    unsigned int nanoseconds;
    char rest[132];
};
#define BASIC 0x7ff

static void opened(const char *name, long fd)
{
    char text[64] = "";
    long size = fd < 0 ? -1 : read((int)fd, text, sizeof text - 1);

    if (fd < 0)
        printf("%s: errno %d\n", name, errno);
    else
        printf("%s: %.*s\n", name, (int)(size < 0 ? 0 : size), text);
    if (fd >= 0)
        close((int)fd);
}

static void sized(const char *name, long failed, long long size, long nanoseconds)
{
    if (failed)
        printf("%s: errno %d\n", name, errno);
    else
        printf("%s: %lld bytes, %ld ns\n", name, size, nanoseconds);
}

#ifndef SYS_openat2
#define SYS_openat2 437
#endif
#ifndef SYS_faccessat2
#define SYS_faccessat2 439
#endif

int main(int count, char **words)
{
    const char *path = words[1], *link = words[2];
    struct how how = {.flags = O_RDONLY};
    struct stat st;
    struct extended sx;
    struct statfs fs;
    struct utsname names;
    char text[4096];
    long got;

    if (count < 3)
        return 2;
    opened("openat", syscall(SYS_openat, AT_FDCWD, path, O_RDONLY));
    opened("openat2", syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof how));
#ifdef SYS_open
    opened("open", syscall(SYS_open, path, O_RDONLY));
    got = syscall(SYS_stat, path, &st);
    sized("stat", got, st.st_size, st.st_mtim.tv_nsec);
    printf("access: %ld\n", syscall(SYS_access, path, R_OK));
    got = syscall(SYS_lstat, link, &st);
    printf("lstat: %s\n", got ? "failed" : S_ISLNK(st.st_mode) ? "link" : "other");
#endif
    got = syscall(SYS_newfstatat, AT_FDCWD, path, &st, 0);
    sized("newfstatat", got, st.st_size, st.st_mtim.tv_nsec);
    got = syscall(SYS_statx, AT_FDCWD, path, 0, BASIC, &sx);
    sized("statx", got, sx.size, (long)sx.nanoseconds);
    printf("faccessat: %ld\n", syscall(SYS_faccessat, AT_FDCWD, path, R_OK));
    printf("faccessat2: %ld\n", syscall(SYS_faccessat2, AT_FDCWD, path, R_OK, 0));
    got = syscall(SYS_newfstatat, AT_FDCWD, path, &st, AT_EMPTY_PATH);
    sized("newfstatat, may be empty", got, st.st_size, st.st_mtim.tv_nsec);
    got = syscall(SYS_statx, AT_FDCWD, path, AT_EMPTY_PATH, BASIC, &sx);
    sized("statx, may be empty", got, sx.size, (long)sx.nanoseconds);
    printf("faccessat2, may be empty: %ld\n", syscall(SYS_faccessat2, AT_FDCWD, path, R_OK, AT_EMPTY_PATH));
    got = syscall(SYS_newfstatat, AT_FDCWD, "", &st, AT_EMPTY_PATH);
    printf("newfstatat of the folder: %s\n", got ? "failed" : S_ISDIR(st.st_mode) ? "folder" : "other");
    printf("statfs: %d\n", statfs(path, &fs));
    got = syscall(SYS_readlinkat, AT_FDCWD, link, text, sizeof text);
    printf("readlinkat: %.*s\n", (int)(got < 0 ? 0 : got), text);
    got = syscall(SYS_readlinkat, AT_FDCWD, link, text, 3);
    printf("short readlinkat: %.*s\n", (int)(got < 0 ? 0 : got), text);
    got = syscall(SYS_readlinkat, AT_FDCWD, path, text, sizeof text);
    printf("readlinkat of no link: errno %d\n", got < 0 ? errno : 0);
    uname(&names);
    printf("uname: %s\n", names.nodename);
    return 0;
}
