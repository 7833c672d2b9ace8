/* Watches below FOLDER, which has a file, a folder, and a link to each: watches FOLDER. A line for each call with its errno,
   then what is told of what DOER, a shell command, does there. The same of a folder of this machine and of a tree. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

static const char *folder;

static void add(const char *what, int fd, const char *name, uint32_t mask)
{
    char path[4096];
    int watch;

    snprintf(path, sizeof path, "%s%s", *name == '/' ? folder : "", name);
    watch = inotify_add_watch(fd, path, mask);
    printf("%s %d %d\n", what, watch, watch < 0 ? errno : 0);
}

static void tell(int fd)
{
    char events[65536] __attribute__((aligned(8)));
    struct pollfd ready = {fd, POLLIN, 0};

    while (poll(&ready, 1, 200) > 0) {
        ssize_t size = read(fd, events, sizeof events);

        for (char *at = events; at < events + size;) {
            struct inotify_event *event = (void *)at;

            printf("%d %x %s\n", event->wd, event->mask, event->len ? event->name : "");
            at += sizeof *event + event->len;
        }
    }
}

int main(int count, char **words)
{
    int fd = inotify_init1(IN_CLOEXEC), plain = open("/dev/null", O_RDONLY), here;
    char place[64];

    folder = words[1];
    add("folder", fd, "/w", IN_ALL_EVENTS);
    add("the same", fd, "/w/", IN_CREATE | IN_DELETE);
    add("create", fd, "/w", IN_CREATE | IN_MASK_CREATE);
    add("more", fd, "/w", IN_MODIFY | IN_MASK_ADD);
    add("file", fd, "/w/file", IN_MODIFY | IN_DELETE_SELF);
    add("slash", fd, "/w/file/", IN_MODIFY);
    add("only a folder", fd, "/w/file", IN_MODIFY | IN_ONLYDIR);
    add("link", fd, "/w/link", IN_MODIFY);
    add("link itself", fd, "/w/link", IN_ATTRIB | IN_DONT_FOLLOW);
    add("link to a folder", fd, "/w/up", IN_CREATE | IN_DELETE | IN_MODIFY | IN_ONLYDIR);
    add("nothing", fd, "/w/none", IN_MODIFY);
    add("below a file", fd, "/w/file/x", IN_MODIFY);
    add("no mask", fd, "/w/file", 0);
    add("no inotify", plain, "/w/file", IN_MODIFY);
    add("no descriptor", 99, "/w/file", IN_MODIFY);
    here = open(strcat(strcpy(place, folder), "/w"), O_RDONLY | O_DIRECTORY);
    snprintf(place, sizeof place, "/proc/self/fd/%d", here);
    printf("by descriptor %d\n", inotify_add_watch(fd, place, IN_CREATE | IN_DELETE | IN_MODIFY));
    fchdir(here);
    add("relative", fd, "sub", IN_CREATE | IN_ONLYDIR);
    add("relative, twice", fd, ".", IN_CREATE | IN_DELETE | IN_MODIFY);
    fflush(stdout);
    if (count > 2 && system(words[2]) != 0)
        return 1;
    tell(fd);
    return 0;
}
