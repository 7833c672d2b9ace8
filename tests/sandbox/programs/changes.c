/* Every call that changes names or attributes, in a folder that is empty: changes FOLDER. A line for each, with its errno,
   and what is there afterwards. The same lines come of a folder of this machine and of one of the target. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>
#include <utime.h>

#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif

static const char *folder;

static const char *in(const char *name)
{
    static char places[4][4096];
    static int turn;

    turn = (turn + 1) % 4;
    snprintf(places[turn], sizeof places[turn], "%s/%s", folder, name);
    return places[turn];
}

static void shown(const char *name)
{
    char target[256] = "";
    struct stat got;

    if (lstat(in(name), &got) < 0) {
        printf(" %s:%d", name, errno);
        return;
    }
    if (S_ISLNK(got.st_mode) && readlink(in(name), target, sizeof target - 1) < 0)
        printf(" readlink:%d", errno);
    printf(" %s:%o,%d,%u,%u,%ld,%ld.%ld,%s", name, got.st_mode, (int)got.st_nlink, got.st_uid, got.st_gid,
           S_ISREG(got.st_mode) ? (long)got.st_size : 0L, (long)got.st_mtim.tv_sec % 1000000, got.st_mtim.tv_nsec % 1000, target);
}

static void did(const char *what, long done, const char *one, const char *other)
{
    printf("%s %d", what, done < 0 ? errno : 0);
    if (one)
        shown(one);
    if (other)
        shown(other);
    printf("\n");
}

static void still(const char *name) /* so that its times are those that were set */
{
    struct timespec then[2] = {{1000000007, 5}, {1000000009, 7}};

    utimensat(AT_FDCWD, in(name), then, AT_SYMLINK_NOFOLLOW);
}

static void names(void)
{
    did("mkdirat", syscall(SYS_mkdirat, AT_FDCWD, in("d"), 0777), NULL, NULL);
    still("d");
    did("mkdirat again", syscall(SYS_mkdirat, AT_FDCWD, in("d"), 0777), "d", NULL);
    did("mkdir slash", mkdirat(AT_FDCWD, in("slash/"), 0700), NULL, NULL);
    did("mkdir nowhere", mkdirat(AT_FDCWD, in("no/d"), 0700), NULL, NULL);
    did("mkdir dots", mkdirat(AT_FDCWD, in("d/../dots"), 0700), NULL, NULL);
    did("mknodat", syscall(SYS_mknodat, AT_FDCWD, in("f"), S_IFREG | 0666, 0), NULL, NULL);
    did("mknodat fifo", syscall(SYS_mknodat, AT_FDCWD, in("p"), S_IFIFO | 0600, 0), NULL, NULL);
    still("f");
    still("p");
    did("they are", 0, "f", "p");
    did("symlinkat", syscall(SYS_symlinkat, "f", AT_FDCWD, in("l")), NULL, NULL);
    did("symlinkat dangling", syscall(SYS_symlinkat, "nowhere/at all", AT_FDCWD, in("dangling")), NULL, NULL);
    did("symlinkat nothing", syscall(SYS_symlinkat, "", AT_FDCWD, in("empty")), NULL, NULL);
    did("linkat", syscall(SYS_linkat, AT_FDCWD, in("f"), AT_FDCWD, in("g"), 0), "g", NULL);
    did("linkat of a link", syscall(SYS_linkat, AT_FDCWD, in("l"), AT_FDCWD, in("m"), 0), NULL, NULL);
    did("linkat through it", syscall(SYS_linkat, AT_FDCWD, in("l"), AT_FDCWD, in("n"), AT_SYMLINK_FOLLOW), "n", NULL);
    did("linkat of a folder", syscall(SYS_linkat, AT_FDCWD, in("d"), AT_FDCWD, in("e"), 0), NULL, NULL);
    did("renameat2", syscall(SYS_renameat2, AT_FDCWD, in("g"), AT_FDCWD, in("d/g"), 0), "g", "d/g");
    did("renameat2 keep", syscall(SYS_renameat2, AT_FDCWD, in("f"), AT_FDCWD, in("d/g"), 1), NULL, NULL);
    did("renameat2 exchange", syscall(SYS_renameat2, AT_FDCWD, in("p"), AT_FDCWD, in("d/g"), 2), "p", "d/g");
    did("renameat2 both", syscall(SYS_renameat2, AT_FDCWD, in("p"), AT_FDCWD, in("d/g"), 3), NULL, NULL);
    did("rename into itself", syscall(SYS_renameat2, AT_FDCWD, in("d"), AT_FDCWD, in("d/d"), 0), NULL, NULL);
    did("rename to a full one", syscall(SYS_renameat2, AT_FDCWD, in("slash"), AT_FDCWD, in("d"), 0), NULL, NULL);
    did("unlinkat of a folder", syscall(SYS_unlinkat, AT_FDCWD, in("d"), 0), NULL, NULL);
    did("unlinkat of a full one", syscall(SYS_unlinkat, AT_FDCWD, in("d"), AT_REMOVEDIR), NULL, NULL);
    did("unlinkat folder of a file", syscall(SYS_unlinkat, AT_FDCWD, in("f"), AT_REMOVEDIR), NULL, NULL);
    did("unlinkat", syscall(SYS_unlinkat, AT_FDCWD, in("n"), 0), "n", NULL);
    did("unlinkat slash", syscall(SYS_unlinkat, AT_FDCWD, in("f/"), 0), NULL, NULL);
    did("unlinkat again", syscall(SYS_unlinkat, AT_FDCWD, in("n"), 0), NULL, NULL);
    did("unlinkat empty", syscall(SYS_unlinkat, AT_FDCWD, in("slash/"), AT_REMOVEDIR), "slash", NULL);
    did("a bad flag", syscall(SYS_unlinkat, AT_FDCWD, in("f"), 0x4000000), NULL, NULL);
}

static void attributes(void)
{
    struct timespec when[2] = {{1200000001, 11}, {1200000002, 13}}, omit[2] = {{0, UTIME_OMIT}, {1300000003, 17}};

    did("truncate", truncate(in("f"), 12345), NULL, NULL);
    did("truncate a folder", truncate(in("d"), 1), NULL, NULL);
    did("truncate less than 0", truncate(in("f"), -1), NULL, NULL);
    did("utimensat", syscall(SYS_utimensat, AT_FDCWD, in("f"), when, 0), "f", NULL);
    did("utimensat omit", syscall(SYS_utimensat, AT_FDCWD, in("l"), omit, 0), "f", NULL);
    did("utimensat of a link", syscall(SYS_utimensat, AT_FDCWD, in("l"), when, AT_SYMLINK_NOFOLLOW), "f", "l");
    did("utimensat now", syscall(SYS_utimensat, AT_FDCWD, in("d/g"), NULL, 0), NULL, NULL);
    did("fchmodat", syscall(SYS_fchmodat, AT_FDCWD, in("f"), 0604), "f", NULL);
    did("fchmodat through", syscall(SYS_fchmodat, AT_FDCWD, in("l"), 0640), "f", NULL);
    did("fchmodat2", syscall(SYS_fchmodat2, AT_FDCWD, in("f"), 0600, 0), "f", NULL);
    did("fchmodat2 of a link", syscall(SYS_fchmodat2, AT_FDCWD, in("l"), 0600, AT_SYMLINK_NOFOLLOW), NULL, NULL);
    did("fchownat", syscall(SYS_fchownat, AT_FDCWD, in("f"), 65534, -1, 0), "f", NULL);
    did("fchownat of a link", syscall(SYS_fchownat, AT_FDCWD, in("l"), -1, 65534, AT_SYMLINK_NOFOLLOW), "f", "l");
    did("setxattr", syscall(SYS_setxattr, in("l"), "user.a", "abc", 3, 0), NULL, NULL);
    did("setxattr create", syscall(SYS_setxattr, in("f"), "user.a", "abc", 3, 1), NULL, NULL);
    did("lsetxattr", syscall(SYS_lsetxattr, in("f"), "user.b", "", 0, 0), NULL, NULL);
    did("lsetxattr of a link", syscall(SYS_lsetxattr, in("l"), "user.b", "", 0, 0), NULL, NULL);
    did("setxattr much", syscall(SYS_setxattr, in("f"), "user.c", "", 1 << 20, 0), NULL, NULL);
    did("removexattr", syscall(SYS_removexattr, in("l"), "user.a"), NULL, NULL);
    did("removexattr again", syscall(SYS_removexattr, in("f"), "user.a"), NULL, NULL);
    did("lremovexattr", syscall(SYS_lremovexattr, in("f"), "user.b"), NULL, NULL);
    did("of nothing", syscall(SYS_fchmodat, AT_FDCWD, in("nothing"), 0600), NULL, NULL);
    did("of a long name", syscall(SYS_fchmodat, AT_FDCWD, in("12345678901234567890123456789012345678901234567890123456789"
        "01234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345"
        "678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345"), 0600), NULL, NULL);
}

#ifdef SYS_mkdir
static void older(void)
{
    struct timeval micro[2] = {{1400000001, 2}, {1400000003, 4}}, bad[2] = {{1, 2000000}, {1, 0}};
    struct utimbuf seconds = {1500000001, 1500000002};

    did("mkdir", syscall(SYS_mkdir, in("od"), 0750), NULL, NULL);
    did("mknod", syscall(SYS_mknod, in("of"), S_IFREG | 0640, 0), NULL, NULL);
    did("symlink", syscall(SYS_symlink, "of", in("ol")), NULL, NULL);
    did("link", syscall(SYS_link, in("of"), in("og")), NULL, NULL);
    did("rename", syscall(SYS_rename, in("og"), in("od/og")), NULL, NULL);
    did("renameat", syscall(SYS_renameat, AT_FDCWD, in("od/og"), AT_FDCWD, in("oh")), NULL, NULL);
    did("chmod", syscall(SYS_chmod, in("ol"), 0600), NULL, NULL);
    did("chown", syscall(SYS_chown, in("ol"), 1, 2), NULL, NULL);
    did("lchown", syscall(SYS_lchown, in("ol"), 3, 4), NULL, NULL);
    did("utime", syscall(SYS_utime, in("of"), &seconds), "of", NULL);
    did("utimes", syscall(SYS_utimes, in("of"), micro), "of", NULL);
    did("utimes bad", syscall(SYS_utimes, in("of"), bad), "of", NULL);
    did("futimesat", syscall(SYS_futimesat, AT_FDCWD, in("of"), micro), "of", NULL);
    still("ol");
    did("they are", 0, "ol", "oh");
    did("unlink", syscall(SYS_unlink, in("oh")), "oh", NULL);
    did("rmdir", syscall(SYS_rmdir, in("od")), "od", NULL);
}
#endif

int main(int count, char **words)
{
    if (count != 2)
        return 2;
    folder = words[1];
    umask(027);
    names();
    attributes();
#ifdef SYS_mkdir
    older();
#endif
    return 0;
}
