/* The probe: says what it sees of each argument, one line each, the same in every language.
 *
 *   $NAME   env NAME=VALUE (or env NAME unset)
 *   @host   host NAME
 *   PATH    path MODE(octal) UID GID SIZE MTIME_NS INODE NLINK [-> LINK] [= HEX] [: NAMES]
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int by_name(const struct dirent **a, const struct dirent **b) {
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int not_dots(const struct dirent *e) {
    return strcmp(e->d_name, ".") && strcmp(e->d_name, "..");
}

static void contents(const char *path) {
    unsigned char buffer[4096];
    int fd = open(path, O_RDONLY);
    ssize_t n;
    printf(" = ");
    while (fd >= 0 && (n = read(fd, buffer, sizeof buffer)) > 0)
        for (ssize_t i = 0; i < n; i++) printf("%02x", buffer[i]);
    if (fd >= 0) close(fd);
}

static void names(const char *path) {
    struct dirent **list;
    int n = scandir(path, &list, not_dots, by_name);
    printf(" : ");
    for (int i = 0; i < n; i++) printf("%s%s", i ? "," : "", list[i]->d_name);
}

static void look(const char *path) {
    struct stat st;
    char link[4096];
    if (lstat(path, &st)) {
        printf("%s errno %d\n", path, errno);
        return;
    }
    printf("%s %o %u %u %lld %lld%09ld %llu %lu", path, st.st_mode, st.st_uid, st.st_gid, (long long)st.st_size,
           (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec, (unsigned long long)st.st_ino, (unsigned long)st.st_nlink);
    if (S_ISLNK(st.st_mode)) {
        ssize_t n = readlink(path, link, sizeof link - 1);
        link[n < 0 ? 0 : n] = 0;
        printf(" -> %s", link);
        if (stat(path, &st)) st.st_mode = 0;
    }
    if (S_ISREG(st.st_mode)) contents(path);
    if (S_ISDIR(st.st_mode)) names(path);
    printf("\n");
}

int main(int argc, char **argv) {
    char host[256] = "";
    for (int i = 1; i < argc; i++) {
        if (argv[i][0] == '$') {
            const char *value = getenv(argv[i] + 1);
            printf(value ? "env %s=%s\n" : "env %s unset\n", argv[i] + 1, value);
        } else if (!strcmp(argv[i], "@host")) {
            gethostname(host, sizeof host);
            printf("host %s\n", host);
        } else {
            look(argv[i]);
        }
    }
    return 0;
}
