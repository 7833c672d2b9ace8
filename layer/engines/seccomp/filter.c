/* The filter: which system calls are handed to us. Installed in the child between fork and exec, so
   everything here is async-signal-safe. Rules: another architecture or ABI is allowed untouched;
   AT_EMPTY_PATH with a descriptor is fstat and its like, so it never leaves the kernel (a filter cannot
   look at the path, which might be absolute all the same); io_uring would go round the filter, so it is
   answered "not here" and runtimes fall back. */
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "parts.h"

#if defined(__x86_64__)
#define OUR_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define OUR_ARCH AUDIT_ARCH_AARCH64
#else
#error "the seccomp engine knows x86-64 and arm64"
#endif
#ifndef SYS_faccessat2
#define SYS_faccessat2 439
#endif
#ifndef SYS_openat2
#define SYS_openat2 437
#endif
#ifndef SYS_io_uring_setup
#define SYS_io_uring_setup 425
#endif
#define X32_BIT 0x40000000u
#define NEGATIVE 0x80000000u /* as a descriptor: AT_FDCWD, or none */

static const struct caught CAUGHT[] = {
    {SYS_openat, OP_OPENAT, PM_CALL_OPEN, 1, -1, 0},
    {SYS_newfstatat, OP_FSTATAT, PM_CALL_STAT, 1, 3, 0},
    {SYS_statx, OP_STATX, PM_CALL_STAT, 1, 2, 0},
    {SYS_readlinkat, OP_READLINKAT, PM_CALL_READLINK, 1, -1, 0},
    {SYS_faccessat, OP_FACCESSAT, PM_CALL_ACCESS, 1, -1, 0},
    {SYS_faccessat2, OP_FACCESSAT2, PM_CALL_ACCESS, 1, 3, 0},
    {SYS_openat2, OP_OPENAT2, PM_CALL_OPEN, 1, -1, 0},
    {SYS_statfs, OP_STATFS, PM_CALL_STATFS, 0, -1, 0},
    {SYS_chdir, OP_CHDIR, PM_CALL_STAT, 0, -1, 0},
    {SYS_getxattr, OP_GETXATTR, PM_CALL_STAT, 0, -1, 0},
    {SYS_lgetxattr, OP_LGETXATTR, PM_CALL_STAT, 0, -1, 0},
    {SYS_listxattr, OP_LISTXATTR, PM_CALL_STAT, 0, -1, 0},
    {SYS_llistxattr, OP_LLISTXATTR, PM_CALL_STAT, 0, -1, 0},
    {SYS_mkdirat, OP_MKDIRAT, PM_CALL_CHANGE, 1, -1, 0},
    {SYS_mknodat, OP_MKNODAT, PM_CALL_CHANGE, 1, -1, 0},
    {SYS_unlinkat, OP_UNLINKAT, PM_CALL_CHANGE, 1, -1, 0},
    {SYS_renameat, OP_RENAMEAT, PM_CALL_CHANGE, 1, -1, 3},
    {SYS_renameat2, OP_RENAMEAT2, PM_CALL_CHANGE, 1, -1, 3},
    {SYS_linkat, OP_LINKAT, PM_CALL_CHANGE, 1, 4, 3},
    {SYS_symlinkat, OP_SYMLINKAT, PM_CALL_CHANGE, 2, -1, 0},
    {SYS_fchmodat, OP_FCHMODAT, PM_CALL_CHANGE, 1, -1, 0},
    {PM_SYS_fchmodat2, OP_FCHMODAT2, PM_CALL_CHANGE, 1, 3, 0},
    {SYS_fchownat, OP_FCHOWNAT, PM_CALL_CHANGE, 1, 4, 0},
    {SYS_utimensat, OP_UTIMENSAT, PM_CALL_CHANGE, 1, -1, 0},
    {SYS_truncate, OP_TRUNCATE, PM_CALL_CHANGE, 0, -1, 0},
    {SYS_setxattr, OP_SETXATTR, PM_CALL_CHANGE, 0, -1, 0},
    {SYS_lsetxattr, OP_LSETXATTR, PM_CALL_CHANGE, 0, -1, 0},
    {SYS_removexattr, OP_REMOVEXATTR, PM_CALL_CHANGE, 0, -1, 0},
    {SYS_lremovexattr, OP_LREMOVEXATTR, PM_CALL_CHANGE, 0, -1, 0},
    {SYS_execve, OP_OTHER, PM_CALL_OTHER, 0, -1, 0},
    {SYS_execveat, OP_OTHER, PM_CALL_OTHER, 1, 4, 0},
    {SYS_chroot, OP_OTHER, PM_CALL_OTHER, 0, -1, 0},
    {SYS_pivot_root, OP_OTHER, PM_CALL_OTHER, 0, -1, 1},
    {SYS_mount, OP_OTHER, PM_CALL_OTHER, 0, -1, 1},
    {SYS_umount2, OP_OTHER, PM_CALL_OTHER, 0, -1, 0},
    {SYS_fanotify_mark, OP_OTHER, PM_CALL_OTHER, 4, -1, 0},
    {SYS_name_to_handle_at, OP_OTHER, PM_CALL_OTHER, 1, 4, 0},
    {PM_SYS_open_tree, OP_OTHER, PM_CALL_OTHER, 1, 2, 0},
    {PM_SYS_open_tree_attr, OP_OTHER, PM_CALL_OTHER, 1, 2, 0},
    {PM_SYS_move_mount, OP_OTHER, PM_CALL_OTHER, 1, -1, 3},
    {PM_SYS_fspick, OP_OTHER, PM_CALL_OTHER, 1, -1, 0},
    {PM_SYS_mount_setattr, OP_OTHER, PM_CALL_OTHER, 1, 2, 0},
    {PM_SYS_setxattrat, OP_OTHER, PM_CALL_OTHER, 1, 2, 0},
    {PM_SYS_getxattrat, OP_OTHER, PM_CALL_OTHER, 1, 2, 0},
    {PM_SYS_listxattrat, OP_OTHER, PM_CALL_OTHER, 1, 2, 0},
    {PM_SYS_removexattrat, OP_OTHER, PM_CALL_OTHER, 1, 2, 0},
    {PM_SYS_file_getattr, OP_OTHER, PM_CALL_OTHER, 1, 4, 0},
    {PM_SYS_file_setattr, OP_OTHER, PM_CALL_OTHER, 1, 4, 0},
    {SYS_inotify_add_watch, OP_WATCH, PM_CALL_WATCH, 1, -1, 0},
    {SYS_getcwd, OP_GETCWD, PM_CALL_OPEN | PM_CALL_STAT, -1, -1, 0},
    {SYS_uname, OP_UNAME, PM_CALL_HOSTNAME, -1, -1, 0},
    {SYS_connect, OP_CONNECT, PM_CALL_CONNECT, -1, -1, 0},
    {SYS_getpeername, OP_GETPEERNAME, PM_CALL_CONNECT | PM_CALL_SENDTO | PM_CALL_LISTEN, -1, -1, 0},
    {SYS_getsockname, OP_GETSOCKNAME, PM_CALL_CONNECT | PM_CALL_SENDTO | PM_CALL_BIND | PM_CALL_LISTEN, -1, -1, 0},
    {SYS_bind, OP_BIND, PM_CALL_BIND, -1, -1, 0},
    {SYS_listen, OP_LISTEN, PM_CALL_LISTEN, -1, -1, 0},
    {SYS_accept, OP_ACCEPT, PM_CALL_LISTEN, -1, -1, 0},
    {SYS_accept4, OP_ACCEPT4, PM_CALL_LISTEN, -1, -1, 0},
    {SYS_sendto, OP_SENDTO, PM_CALL_SENDTO, -1, -1, 0},
    {SYS_recvfrom, OP_RECVFROM, PM_CALL_SENDTO, -1, -1, 0},
    {SYS_sendmsg, OP_SENDMSG, PM_CALL_SENDTO, -1, -1, 0},
    {SYS_recvmsg, OP_RECVMSG, PM_CALL_SENDTO, -1, -1, 0},
    {SYS_sendmmsg, OP_SENDMMSG, PM_CALL_SENDTO, -1, -1, 0},
    {SYS_recvmmsg, OP_RECVMMSG, PM_CALL_SENDTO, -1, -1, 0},
#ifdef SYS_open
    {SYS_open, OP_OPEN, PM_CALL_OPEN, 0, -1, 0},
    {SYS_creat, OP_CREAT, PM_CALL_OPEN, 0, -1, 0},
    {SYS_stat, OP_STAT, PM_CALL_STAT, 0, -1, 0},
    {SYS_lstat, OP_LSTAT, PM_CALL_STAT, 0, -1, 0},
    {SYS_access, OP_ACCESS, PM_CALL_ACCESS, 0, -1, 0},
    {SYS_readlink, OP_READLINK, PM_CALL_READLINK, 0, -1, 0},
    {SYS_mkdir, OP_MKDIR, PM_CALL_CHANGE, 0, -1, 0},
    {SYS_mknod, OP_MKNOD, PM_CALL_CHANGE, 0, -1, 0},
    {SYS_unlink, OP_UNLINK, PM_CALL_CHANGE, 0, -1, 0},
    {SYS_rmdir, OP_RMDIR, PM_CALL_CHANGE, 0, -1, 0},
    {SYS_rename, OP_RENAME, PM_CALL_CHANGE, 0, -1, 1},
    {SYS_link, OP_LINK, PM_CALL_CHANGE, 0, -1, 1},
    {SYS_symlink, OP_SYMLINK, PM_CALL_CHANGE, 1, -1, 0},
    {SYS_chmod, OP_CHMOD, PM_CALL_CHANGE, 0, -1, 0},
    {SYS_chown, OP_CHOWN, PM_CALL_CHANGE, 0, -1, 0},
    {SYS_lchown, OP_LCHOWN, PM_CALL_CHANGE, 0, -1, 0},
    {SYS_utime, OP_UTIME, PM_CALL_CHANGE, 0, -1, 0},
    {SYS_utimes, OP_UTIMES, PM_CALL_CHANGE, 0, -1, 0},
    {SYS_futimesat, OP_FUTIMESAT, PM_CALL_CHANGE, 1, -1, 0},
#endif
};
#define COUNT (sizeof CAUGHT / sizeof *CAUGHT)

const struct caught *pm_caught(int nr)
{
    for (size_t i = 0; i < COUNT; i++)
        if (CAUGHT[i].nr == nr)
            return &CAUGHT[i];
    return NULL;
}

struct program {
    struct sock_filter code[14 + 7 * COUNT];
    unsigned short size;
};

static void add(struct program *program, unsigned short code, unsigned char yes, unsigned char no, uint32_t k)
{
    program->code[program->size++] = (struct sock_filter){code, yes, no, k};
}

static void load(struct program *program, size_t offset)
{
    add(program, BPF_LD | BPF_W | BPF_ABS, 0, 0, (uint32_t)offset);
}

static void answer(struct program *program, uint32_t action)
{
    add(program, BPF_RET | BPF_K, 0, 0, action);
}

static void load_argument(struct program *program, int number)
{
    load(program, offsetof(struct seccomp_data, args) + 8u * (unsigned)number); /* little endian */
}

/* Which argument may be an address that is wanted or given, -1: that is not looked at. */
static int address_of(enum op op)
{
    if (op == OP_SENDTO || op == OP_RECVFROM)
        return 4;
    if (op == OP_UTIMENSAT) /* without a path it is about a descriptor */
        return 1;
    return op == OP_ACCEPT || op == OP_ACCEPT4 ? 1 : -1;
}

/* Without an address there is nothing to decide, and none to tell: send, recv, and TCP; accept in many runtimes. */
static void catch_with_address(struct program *program, int nr, int argument)
{
    const unsigned short equal = BPF_JMP | BPF_JEQ | BPF_K;
    const size_t address = offsetof(struct seccomp_data, args) + 8u * (unsigned)argument;

    add(program, equal, 0, 6, (uint32_t)nr);
    load(program, address);
    add(program, equal, 0, 2, 0);
    load(program, address + 4);
    add(program, equal, 1, 0, 0);
    answer(program, SECCOMP_RET_USER_NOTIF);
    answer(program, SECCOMP_RET_ALLOW);
}

static void catch_one(struct program *program, const struct caught *caught)
{
    const unsigned short equal = BPF_JMP | BPF_JEQ | BPF_K, any = BPF_JMP | BPF_JSET | BPF_K;

    if (address_of(caught->op) >= 0) {
        catch_with_address(program, caught->nr, address_of(caught->op));
        return;
    }
    if (caught->flags < 0) {
        add(program, equal, 0, 1, (uint32_t)caught->nr);
    } else {
        add(program, equal, 0, 6, (uint32_t)caught->nr);
        load_argument(program, caught->flags);
        add(program, any, 0, 3, AT_EMPTY_PATH);
        load_argument(program, 0);
        add(program, any, 1, 0, NEGATIVE);
        answer(program, SECCOMP_RET_ALLOW);
    }
    answer(program, SECCOMP_RET_USER_NOTIF);
}

/* The program's own start is not asked about: spawn.c makes that call so that it is known. */
static void let_launch_pass(struct program *program)
{
    const unsigned short equal = BPF_JMP | BPF_JEQ | BPF_K;

    add(program, equal, 0, 4, SYS_execveat);
    load(program, offsetof(struct seccomp_data, args) + 4);
    add(program, equal, 0, 1, PM_LAUNCH);
    answer(program, SECCOMP_RET_ALLOW);
    load(program, offsetof(struct seccomp_data, nr));
}

static void build(struct program *program, unsigned int calls)
{
    const unsigned short equal = BPF_JMP | BPF_JEQ | BPF_K, least = BPF_JMP | BPF_JGE | BPF_K;

    load(program, offsetof(struct seccomp_data, arch));
    add(program, equal, 1, 0, OUR_ARCH);
    answer(program, SECCOMP_RET_ALLOW);
    load(program, offsetof(struct seccomp_data, nr));
    add(program, least, 0, 1, X32_BIT);
    answer(program, SECCOMP_RET_ALLOW);
    add(program, equal, 0, 1, SYS_io_uring_setup);
    answer(program, SECCOMP_RET_ERRNO | ENOSYS);
    let_launch_pass(program);
    for (size_t i = 0; i < COUNT; i++)
        if (CAUGHT[i].calls & calls)
            catch_one(program, &CAUGHT[i]);
    answer(program, SECCOMP_RET_ALLOW);
}

/* The listener's number, or -errno. Every caught call of this process stops from here on. */
int pm_filter_install(unsigned int calls)
{
    struct program program = {.size = 0};
    struct sock_fprog fprog;
    long listener;

    build(&program, calls);
    fprog = (struct sock_fprog){.len = program.size, .filter = program.code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -errno;
    listener = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
                       SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, &fprog);
    if (listener < 0 && errno == EINVAL) /* before 5.19 */
        listener = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &fprog);
    return listener < 0 ? -errno : (int)listener;
}
