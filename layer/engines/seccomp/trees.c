/* The trees that verdicts have named. A program may hold descriptors and a working directory inside one;
   the kernel would show it our mount's place (or "unreachable"), and this knows the path it should see. */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "parts.h"

#define MOST_TREES 8
#ifndef AT_STATX_DONT_SYNC
#define AT_STATX_DONT_SYNC 0x4000
#endif

struct tree {
    int root;
    dev_t device;
    char prefix[PM_PATH]; /* where the kernel shows its top; empty: detached, it shows as / */
};

struct pm_trees {
    pthread_rwlock_t lock;
    int count;
    struct tree all[MOST_TREES];
};

struct pm_trees *pm_trees_new(void)
{
    struct pm_trees *trees = calloc(1, sizeof *trees);

    if (trees)
        pthread_rwlock_init(&trees->lock, NULL);
    return trees;
}

void pm_trees_free(struct pm_trees *trees)
{
    if (!trees)
        return;
    pthread_rwlock_destroy(&trees->lock);
    free(trees);
}

/* DONT_SYNC: the device is known without asking the file system, which may be waiting for us. */
static int device_of(int directory, const char *name, int flags, dev_t *device)
{
    struct statx got;

    if (statx(directory, name, flags | AT_STATX_DONT_SYNC, 0, &got) < 0)
        return 0;
    *device = makedev(got.stx_dev_major, got.stx_dev_minor);
    return 1;
}

static int link_of(const char *name, char *into)
{
    ssize_t size = readlink(name, into, PATH_MAX - 1);

    if (size <= 0)
        return 0;
    into[size] = 0;
    return into[0] == '/';
}

static void note(struct pm_trees *trees, int root)
{
    struct tree *tree = &trees->all[trees->count];
    char name[32];

    snprintf(name, sizeof name, "/proc/self/fd/%d", root);
    if (trees->count == MOST_TREES || !link_of(name, tree->prefix))
        return;
    if (!device_of(root, "", AT_EMPTY_PATH, &tree->device))
        return;
    if (strcmp(tree->prefix, "/") == 0)
        tree->prefix[0] = 0;
    tree->root = root;
    trees->count++;
}

static int known(const struct pm_trees *trees, int root)
{
    for (int i = 0; i < trees->count; i++)
        if (trees->all[i].root == root)
            return 1;
    return 0;
}

void pm_trees_note(struct pm_trees *trees, int root)
{
    pthread_rwlock_wrlock(&trees->lock);
    if (!known(trees, root))
        note(trees, root);
    pthread_rwlock_unlock(&trees->lock);
}

/* Is there any tree; visible: one whose place in the file system could be seen? */
int pm_trees_any(struct pm_trees *trees, int visible)
{
    int any = 0;

    pthread_rwlock_rdlock(&trees->lock);
    for (int i = 0; i < trees->count; i++)
        any |= !visible || trees->all[i].prefix[0];
    pthread_rwlock_unlock(&trees->lock);
    return any;
}

/* link: a magic link such as /proc/7/cwd. If it leads into a tree, path gets the path inside it. */
int pm_trees_inside(struct pm_trees *trees, const char *link, char *path)
{
    char place[PM_PATH];
    dev_t device;
    int inside = 0;

    if (!device_of(AT_FDCWD, link, 0, &device) || !link_of(link, place))
        return 0;
    pthread_rwlock_rdlock(&trees->lock);
    for (int i = 0; i < trees->count && !inside; i++) {
        const struct tree *tree = &trees->all[i];
        size_t size = strlen(tree->prefix);

        if (tree->device != device || !pm_below(place, tree->prefix))
            continue;
        snprintf(path, PM_PATH, "%s", place[size] ? place + size : "/");
        inside = 1;
    }
    pthread_rwlock_unlock(&trees->lock);
    return inside;
}
