/* Every call of a path that is carried out on this machine only: others FILE FOLDER, one line for each with its errno. Each
   in a process of its own, with arguments that change nothing but what is FILE's. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *file, *folder;
static char *const nothing[] = {NULL};
static struct { unsigned bytes, type; char handle[128]; } handle;
static struct { uint64_t value; unsigned size, flags; } xattr;
static int mount_id;
static char list[256], attributes[24], set[32];

static long try(int which)
{
    char *words[] = {(char *)file, NULL};

    switch (which) {
    case 0: return syscall(SYS_chroot, folder);
    case 1: return syscall(SYS_execve, file, words, nothing);
    case 2: return syscall(SYS_execveat, AT_FDCWD, file, words, nothing, 0);
    case 3: return syscall(SYS_fanotify_mark, syscall(SYS_fanotify_init, 0, 0), 1, 2L, AT_FDCWD, file);
    case 4: return syscall(SYS_mount, "none", folder, "nosuchfs", 0, NULL);
    case 5: return syscall(SYS_mount, folder, "/", "nosuchfs", 0, NULL);
    case 6: return syscall(SYS_mount, NULL, folder, "nosuchfs", 0, NULL);
    case 7: handle.bytes = 128; return syscall(SYS_name_to_handle_at, AT_FDCWD, file, &handle, &mount_id, 0);
    case 8: return syscall(SYS_pivot_root, folder, folder);
    case 9: return syscall(SYS_umount2, folder, 0);
    case 10: return syscall(428, AT_FDCWD, folder, 0);                     /* open_tree */
    case 11: return syscall(429, AT_FDCWD, folder, AT_FDCWD, folder, 0);   /* move_mount */
    case 12: return syscall(433, AT_FDCWD, folder, 0);                     /* fspick */
    case 13: return syscall(442, AT_FDCWD, folder, 0, set, sizeof set);    /* mount_setattr */
    case 14: xattr.value = (uintptr_t)"v", xattr.size = 1;
             return syscall(463, AT_FDCWD, file, 0, "user.a", &xattr, sizeof xattr);
    case 15: xattr.value = (uintptr_t)list, xattr.size = sizeof list;
             return syscall(464, AT_FDCWD, file, 0, "user.none", &xattr, sizeof xattr);
    case 16: return syscall(465, AT_FDCWD, file, 0, list, sizeof list) < 0 ? -1 : 0;
    case 17: return syscall(466, AT_FDCWD, file, 0, "user.none");
    case 18: return syscall(467, AT_FDCWD, folder, 0, NULL, 0);            /* open_tree_attr */
    case 19: return syscall(468, AT_FDCWD, file, attributes, sizeof attributes, 0);
    case 20: return syscall(469, AT_FDCWD, file, attributes, sizeof attributes, 1u << 30);
    case 21: return syscall(SYS_chroot, 1);                                /* a bad address */
    default: return syscall(SYS_execveat, AT_FDCWD, "", words, nothing, 0);
    }
}

static const char *NAMES[] = {
    "chroot", "execve", "execveat", "fanotify_mark", "mount", "mount of it", "mount nothing", "name_to_handle_at",
    "pivot_root", "umount2", "open_tree", "move_mount", "fspick", "mount_setattr", "setxattrat", "getxattrat",
    "listxattrat", "removexattrat", "open_tree_attr", "file_getattr", "file_setattr", "bad address", "no name",
};

int main(int count, char **words)
{
    file = words[1];
    folder = words[2];
    setbuf(stdout, NULL);
    for (int i = 0; count == 3 && i < (int)(sizeof NAMES / sizeof *NAMES); i++) {
        printf("%s:", NAMES[i]);
        if (fork() == 0) {
            long done = try(i);

            printf("%d\n", done < 0 ? errno : 0);
            _exit(0);
        }
        wait(NULL);
    }
    if (count != 3) /* it ran itself */
        printf("run\n");
    return 0;
}
