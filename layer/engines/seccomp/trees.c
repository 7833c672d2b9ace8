/* The trees that verdicts have named. A program may hold descriptors and a working directory inside one;
   the kernel would show it our mount's place (or "unreachable"), and this knows the path it should see.
   This machine's own root is none: what is below it has its name already, and other rights count there. */
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

struct tree {
    int root;
    uint64_t device;
    char prefix[PM_PATH]; /* where the kernel shows its top; empty: detached, it shows as / */
};

struct pm_trees {
    pthread_rwlock_t lock;
    int own;
    int count;
    struct tree all[MOST_TREES];
};

struct pm_trees *pm_trees_new(int own)
{
    struct pm_trees *trees = calloc(1, sizeof *trees);

    if (!trees)
        return NULL;
    pthread_rwlock_init(&trees->lock, NULL);
    trees->own = own;
    return trees;
}

void pm_trees_free(struct pm_trees *trees)
{
    if (!trees)
        return;
    pthread_rwlock_destroy(&trees->lock);
    free(trees);
}

/* DONT_SYNC: known without asking the file system, which may be waiting for us. */
static int place_of(int directory, const char *name, int flags, struct pm_place *place)
{
    struct statx got;

    if (statx(directory, name, flags | AT_STATX_DONT_SYNC, STATX_INO, &got) < 0)
        return 0;
    *place = (struct pm_place){makedev(got.stx_dev_major, got.stx_dev_minor), got.stx_ino, 0};
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
    struct pm_place top, own;
    char name[32];

    if (!place_of(root, "", AT_EMPTY_PATH, &top) || !place_of(trees->own, "", AT_EMPTY_PATH, &own))
        return;
    if (top.device == own.device && top.inode == own.inode)
        return;
    snprintf(name, sizeof name, "/proc/self/fd/%d", root);
    if (trees->count == MOST_TREES || !link_of(name, tree->prefix))
        return;
    tree->device = top.device;
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

/* Is root the top of one? What there was no room to note is taken for this machine's, which is safe. */
int pm_trees_known(struct pm_trees *trees, int root)
{
    int found;

    pthread_rwlock_rdlock(&trees->lock);
    found = known(trees, root);
    pthread_rwlock_unlock(&trees->lock);
    return found;
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
    struct pm_place there;
    int inside = 0;

    if (!place_of(AT_FDCWD, link, 0, &there) || !link_of(link, place))
        return 0;
    pthread_rwlock_rdlock(&trees->lock);
    for (int i = 0; i < trees->count && !inside; i++) {
        const struct tree *tree = &trees->all[i];
        size_t size = strlen(tree->prefix);

        if (tree->device != there.device || !pm_below(place, tree->prefix))
            continue;
        snprintf(path, PM_PATH, "%s", place[size] ? place + size : "/");
        inside = 1;
    }
    pthread_rwlock_unlock(&trees->lock);
    return inside;
}
