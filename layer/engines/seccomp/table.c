/* What is known: path → answers, for that path alone and for everything below it. Rules: an exact answer
   comes before a tree's, a nearer tree before a farther; many readers, one writer, and a reader leaves
   with a copy. Bounded: when full, what was kept for single paths is forgotten (it is asked again). */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "parts.h"

#define BUCKETS 16384u /* power of two */
#define MOST_NODES 65536

struct entry {
    int verdict;
    int code;
    int root;
    int size;
    char value[]; /* not used where it is the node's own path without the slash (size < 0) */
};

struct node {
    struct node *next;
    uint64_t hash;
    struct entry *exact[PM_KINDS][2];
    struct entry *tree[PM_KINDS];
    int size;
    char path[];
};

struct pm_table {
    pthread_rwlock_t lock;
    int nodes;
    struct node *bucket[BUCKETS];
};

#define HASH_START 1469598103934665603ull /* FNV-1a */

static uint64_t hash_on(uint64_t hash, char byte)
{
    return (hash ^ (unsigned char)byte) * 1099511628211ull;
}

static uint64_t hash_of(const char *path, int size)
{
    uint64_t hash = HASH_START;

    for (int i = 0; i < size; i++)
        hash = hash_on(hash, path[i]);
    return hash;
}

struct pm_table *pm_table_new(void)
{
    struct pm_table *table = calloc(1, sizeof *table);

    if (table)
        pthread_rwlock_init(&table->lock, NULL);
    return table;
}

static void drop(struct entry **entry)
{
    free(*entry);
    *entry = NULL;
}

static int drop_exact(struct node *node)
{
    int kept = 0;

    for (int kind = 0; kind < PM_KINDS; kind++) {
        for (int follow = 0; follow < 2; follow++) {
            struct entry **entry = &node->exact[kind][follow];

            if (*entry && (*entry)->verdict == PM_ASK)
                kept = 1; /* an exception below a tree: forgetting it would change answers */
            else
                drop(entry);
        }
        kept |= node->tree[kind] != NULL;
    }
    return kept;
}

static void forget(struct pm_table *table, int everything)
{
    for (unsigned i = 0; i < BUCKETS; i++) {
        struct node **at = &table->bucket[i];

        while (*at) {
            struct node *node = *at;

            if (drop_exact(node) && !everything) {
                at = &node->next;
                continue;
            }
            for (int kind = 0; kind < PM_KINDS; kind++) {
                drop(&node->tree[kind]);
                drop(&node->exact[kind][0]);
                drop(&node->exact[kind][1]);
            }
            *at = node->next;
            free(node);
            table->nodes--;
        }
    }
}

void pm_table_free(struct pm_table *table)
{
    if (!table)
        return;
    forget(table, 1);
    pthread_rwlock_destroy(&table->lock);
    free(table);
}

static struct node *find(struct pm_table *table, uint64_t hash, const char *path, int size)
{
    struct node *node = table->bucket[hash & (BUCKETS - 1)];

    while (node && (node->hash != hash || node->size != size || memcmp(node->path, path, (size_t)size)))
        node = node->next;
    return node;
}

static struct node *find_or_add(struct pm_table *table, const char *path, int size)
{
    uint64_t hash = hash_of(path, size);
    struct node *node = find(table, hash, path, size);

    if (node)
        return node;
    if (table->nodes >= MOST_NODES)
        forget(table, 0);
    node = table->nodes < MOST_NODES ? calloc(1, sizeof *node + (size_t)size + 1) : NULL;
    if (!node)
        return NULL;
    node->hash = hash;
    node->size = size;
    memcpy(node->path, path, (size_t)size);
    node->next = table->bucket[hash & (BUCKETS - 1)];
    table->bucket[hash & (BUCKETS - 1)] = node;
    table->nodes++;
    return node;
}

static struct entry *make(const struct node *node, const pm_answer *answer)
{
    int own = answer->verdict == PM_TREE_PATH && answer->size == node->size - 1 && answer->size > 0 &&
              memcmp(answer->value, node->path + 1, (size_t)answer->size) == 0;
    size_t size = own ? 0 : (size_t)answer->size;
    struct entry *entry = malloc(sizeof *entry + size);

    if (!entry)
        return NULL;
    *entry = (struct entry){answer->verdict, answer->code, answer->root, own ? -1 : answer->size};
    if (size)
        memcpy(entry->value, answer->value, size);
    return entry;
}

static int set(struct entry **place, struct entry *entry)
{
    if (!entry)
        return ENOMEM;
    free(*place);
    *place = entry;
    return 0;
}

/* follow -1: whether links are followed makes no difference. */
int pm_table_put(struct pm_table *table, int kind, int follow, int tree, const char *path, int size,
                 const pm_answer *answer)
{
    struct node *node;
    int failed = 0;

    if (kind < 0 || kind >= PM_KINDS || size < 0 || size >= PATH_MAX || answer->size < 0 || answer->size >= PATH_MAX)
        return EINVAL;
    if (size == 1 && path[0] == '/' && tree)
        size = 0; /* everything: the empty prefix, which ancestors() tries last */
    pthread_rwlock_wrlock(&table->lock);
    node = find_or_add(table, path, size);
    if (!node)
        failed = ENOMEM;
    else if (tree)
        failed = set(&node->tree[kind], make(node, answer));
    for (int i = 0; node && !tree && i < 2 && !failed; i++)
        if (follow < 0 || follow == i)
            failed = set(&node->exact[kind][i], make(node, answer));
    pthread_rwlock_unlock(&table->lock);
    return failed;
}

static void copy(const struct node *node, const struct entry *entry, struct pm_found *found)
{
    const char *value = entry->size < 0 ? node->path + 1 : entry->value;
    int size = entry->size < 0 ? node->size - 1 : entry->size;

    found->verdict = entry->verdict;
    found->code = entry->code;
    found->root = entry->root;
    found->size = size;
    memcpy(found->value, value, (size_t)size);
    found->value[size] = 0;
}

/* The nearest tree entry at or above path. hashes[i]: of path[0..i). */
static void nearest_tree(struct pm_table *table, int kind, const char *path, int size, const uint64_t *hashes,
                         struct pm_found *found)
{
    for (int end = size; end >= 0; end--) {
        struct node *node;

        if (end != size && path[end] != '/')
            continue;
        node = find(table, hashes[end], path, end);
        if (node && node->tree[kind]) {
            copy(node, node->tree[kind], found);
            return;
        }
    }
}

/* found->verdict is PM_ASK when nothing is known (or asking is what is known). */
void pm_table_find(struct pm_table *table, int kind, int follow, const char *path, struct pm_found *found)
{
    uint64_t hashes[PATH_MAX + 1];
    int size = 0;
    struct node *node;

    found->verdict = PM_ASK;
    hashes[0] = HASH_START;
    for (; path[size] && size < PATH_MAX; size++)
        hashes[size + 1] = hash_on(hashes[size], path[size]);
    pthread_rwlock_rdlock(&table->lock);
    node = find(table, hashes[size], path, size);
    if (node && node->exact[kind][follow])
        copy(node, node->exact[kind][follow], found);
    else
        nearest_tree(table, kind, path, size, hashes, found);
    pthread_rwlock_unlock(&table->lock);
}
