/* What the C files share. Rules: threads of the pump never hold the table's lock over a system call;
   everything read from the program may change under our hands, so it is copied once and then used;
   an id is checked again before anything but CONTINUE (a stale CONTINUE fails by itself). */
#ifndef PYMIRROR_PARTS_H
#define PYMIRROR_PARTS_H

#include <limits.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "api.h"

#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif
#ifndef SECCOMP_ADDFD_FLAG_SEND
#define SECCOMP_ADDFD_FLAG_SEND (1UL << 1)
#endif
#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (1UL << 0)
#endif
#ifndef AT_STATX_DONT_SYNC
#define AT_STATX_DONT_SYNC 0x4000
#endif

#define PM_PATH PM_LONGEST
_Static_assert(PM_PATH == PATH_MAX + 2, "cffi reads api.h without the system's headers");

/* filter.c: the system calls behind each call */
enum op { OP_NONE, OP_OPEN, OP_CREAT, OP_OPENAT, OP_OPENAT2, OP_STAT, OP_LSTAT, OP_FSTATAT, OP_STATX,
          OP_ACCESS, OP_FACCESSAT, OP_FACCESSAT2, OP_READLINK, OP_READLINKAT, OP_STATFS, OP_GETXATTR,
          OP_LGETXATTR, OP_LISTXATTR, OP_LLISTXATTR, OP_GETCWD, OP_UNAME, OP_CONNECT, OP_GETPEERNAME,
          OP_GETSOCKNAME, OP_SENDTO, OP_SENDMSG, OP_SENDMMSG, OP_RECVFROM, OP_RECVMSG, OP_RECVMMSG,
          OP_BIND, OP_LISTEN, OP_ACCEPT, OP_ACCEPT4, OP_MKDIR, OP_MKDIRAT, OP_MKNOD, OP_MKNODAT, OP_UNLINK,
          OP_UNLINKAT, OP_RMDIR, OP_RENAME, OP_RENAMEAT, OP_RENAMEAT2, OP_LINK, OP_LINKAT, OP_SYMLINK,
          OP_SYMLINKAT, OP_CHMOD, OP_FCHMODAT, OP_FCHMODAT2, OP_CHOWN, OP_LCHOWN, OP_FCHOWNAT, OP_UTIME,
          OP_UTIMES, OP_FUTIMESAT, OP_UTIMENSAT, OP_TRUNCATE, OP_SETXATTR, OP_LSETXATTR, OP_REMOVEXATTR,
          OP_LREMOVEXATTR, OP_OTHER, OP_WATCH, OP_CHDIR };
enum { /* numbers that are the same on every architecture, also where the system's headers are older */
    PM_SYS_open_tree = 428, PM_SYS_move_mount = 429, PM_SYS_fspick = 433, PM_SYS_mount_setattr = 442,
    PM_SYS_fchmodat2 = 452, PM_SYS_setxattrat = 463, PM_SYS_getxattrat = 464, PM_SYS_listxattrat = 465,
    PM_SYS_removexattrat = 466, PM_SYS_open_tree_attr = 467, PM_SYS_file_getattr = 468, PM_SYS_file_setattr = 469,
};
#define PM_LAUNCH 0x70796d69 /* above a folder's descriptor in execveat, where the kernel looks at no bit: ours */
struct caught {
    int nr;
    enum op op;
    unsigned int calls; /* caught when one of these is wanted */
    int path;           /* which argument is the path, -1: none */
    int flags;          /* which argument may hold AT_EMPTY_PATH, -1: none */
    int other;          /* which argument is a second path, 0: none */
};
const struct caught *pm_caught(int nr);
int pm_filter_install(unsigned int calls);

/* memory.c: the program's memory; 0 or -errno, strings: length or -errno */
int pm_read(pid_t pid, uint64_t address, void *into, size_t size);
int pm_memory_open(pid_t pid);
int pm_memory_write(int memory, uint64_t address, const void *from, size_t size);
int pm_read_string(pid_t pid, uint64_t address, char *into, size_t size);

/* How a path ended: all but a name ask for a directory. */
enum pm_end { PM_END_NAME, PM_END_SLASH, PM_END_DOT, PM_END_DOTS };

/* path.c: pure (and pm_normalise of api.h) */
int pm_is_own_proc(const char *path);
int pm_below(const char *path, const char *prefix);

/* trees.c: the trees verdicts have named, so that their inside is recognised; own: this machine's root */
struct pm_trees;
struct pm_trees *pm_trees_new(int own);
void pm_trees_free(struct pm_trees *trees);
void pm_trees_note(struct pm_trees *trees, int root);
int pm_trees_known(struct pm_trees *trees, int root);
int pm_trees_any(struct pm_trees *trees, int visible);
int pm_trees_inside(struct pm_trees *trees, const char *link, char *path);

/* table.c: what is known */
struct pm_found {
    int verdict;
    int code;
    int root;
    int size;
    char value[PM_PATH];
};
struct pm_table;
struct pm_table *pm_table_new(void);
void pm_table_free(struct pm_table *table);
int pm_table_put(struct pm_table *table, int kind, int follow, int tree, const char *path, int size,
                 const pm_answer *answer);
void pm_table_find(struct pm_table *table, int kind, int follow, const char *path, struct pm_found *found);

/* rights.c: what of a process counts when it opens a file */
#define PM_GROUPS 1024
struct pm_place {
    uint64_t device, inode, mount;
};
struct pm_rights {
    uid_t real_user, user; /* user, group: those that count for files */
    gid_t real_group, group;
    unsigned long long permitted, effective;
    mode_t mask;
    int count;
    gid_t groups[PM_GROUPS];
    struct pm_place root, users; /* users: the user namespace */
};
int pm_rights_read(const char *process, struct pm_rights *rights);
int pm_rights_include(const struct pm_rights *own, const struct pm_rights *rights, int capability);

const char *pm_other_name(int nr); /* other.c: of an OP_OTHER, else "" */

/* carry.c: one notification, from its arguments to its answer */
struct pm_job {
    int listener;
    struct seccomp_notif *request;
    const struct caught *caught;
    int kind;
    int follow;
    int slash;            /* enum pm_end; but for a name only a directory will do */
    int slash_other;      /* of the second path */
    uint64_t open_flags;  /* of the open family */
    uint64_t open_mode;
    uint64_t resolve;
    char raw[PM_PATH];
    char path[PM_PATH];
    struct pm_found found;
    struct pm_found found_other; /* where the second path leads */
    int magic;            /* path is a link of /proc, which leads to what gets a further name */
    int here;             /* found.root is this machine's: the caller's rights count */
    int borrowed;         /* which are in caller and differ from own */
    const struct pm_rights *own;
    struct pm_rights caller;
};
int pm_job_valid(const struct pm_job *job);
void pm_job_continue(const struct pm_job *job);
void pm_job_return(const struct pm_job *job, long long value);
int pm_job_read_open(struct pm_job *job);
void pm_job_classify(struct pm_job *job); /* classify.c */
void pm_job_carry_out(struct pm_job *job);
int pm_job_open_below(const struct pm_job *job, int root, const char *path, uint64_t flags);
void pm_job_carry_change(struct pm_job *job); /* change.c */
void pm_job_carry_watch(const struct pm_job *job); /* watch.c */
void pm_job_carry_chdir(const struct pm_job *job); /* chdir.c */
void pm_job_text(struct pm_job *job, const char *text, int size);
void pm_job_hand_over(const struct pm_job *job, int fd, int close_on_exec);

/* rights.c: the caller's rights around a system call of ours, where job.here */
int pm_job_borrow(struct pm_job *job);
int pm_job_put_on(const struct pm_job *job);
int pm_job_put_on_mask(const struct pm_job *job);
int pm_job_take_mask(struct pm_job *job);
void pm_job_take_off(const struct pm_job *job);

/* names.c: what sockets are shown to be connected to */
#define PM_ADDRESS_SIZE 110 /* of a unix address, the longest there is */
struct pm_address {
    unsigned char size; /* 0: none */
    unsigned char bytes[PM_ADDRESS_SIZE];
};
enum { PM_CONNECTED, PM_FLOW, PM_LOCAL_FLOW }; /* a flow: where an unconnected socket sends to one peer */
struct pm_name {
    uint64_t socket;
    int kind;
    int pending; /* the program was told nothing of how its connect went, and may ask again */
    struct pm_address peer, name, relay;
};
struct pm_names;
struct pm_names *pm_names_new(void);
void pm_names_free(struct pm_names *names);
int pm_names_any(struct pm_names *names);
void pm_names_put(struct pm_names *names, const struct pm_name *name);
void pm_names_drop(struct pm_names *names, uint64_t socket);
void pm_names_drop_flow(struct pm_names *names, uint64_t socket, const struct pm_address *peer);
void pm_names_drop_all(struct pm_names *names, uint64_t socket);
int pm_names_find(struct pm_names *names, uint64_t socket, struct pm_name *found);
int pm_names_flow(struct pm_names *names, uint64_t socket, const struct pm_address *peer, struct pm_name *found);
int pm_names_source(struct pm_names *names, uint64_t socket, const struct pm_address *relay, struct pm_name *found);
int pm_names_talks(struct pm_names *names, uint64_t socket);

/* guests.c: for whom the connections are that are made to the program's listeners on this machine */
struct pm_guests;
struct pm_guests *pm_guests_new(void);
void pm_guests_free(struct pm_guests *guests);
int pm_guests_any(struct pm_guests *guests);
int pm_guests_find(struct pm_guests *guests, const struct pm_address *peer, int domain, int client,
                   struct pm_address *found);

uint64_t pm_network(void); /* sockets.c: the cookie of this process's network namespace */

/* skip.c: processes that are left alone */
int pm_skipped(pid_t pid, char **names, int count);

#endif
