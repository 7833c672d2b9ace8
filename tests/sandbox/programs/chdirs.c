/* chdir in every way: chdirs WHAT FOLDER [COUNT]. FOLDER has a file, a folder sub with deep, the links rel and abs to sub
   and tofile to the file. The same lines come of a folder of this machine and of one of the target. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define FAILED(...) (printf(__VA_ARGS__), fflush(stdout), _exit(1))
#define THREADS 8

static const char *folder;
static atomic_int rung, done;

static int go(const char *path)
{
    return syscall(SYS_chdir, path) < 0 ? errno : 0;
}

static void must(const char *path)
{
    int failed = go(path);

    if (failed)
        FAILED("chdir %s: %s\n", path, strerror(failed));
}

static const char *in(const char *name)
{
    static _Thread_local char place[4096];

    snprintf(place, sizeof place, "%s/%s", folder, name);
    return place;
}

static int descriptors(void)
{
    int count = 0;

    for (int fd = 0; fd < 256; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

static void here(const char *what)
{
    char place[4096] = "";
    struct stat file, top;
    const char *below;
    int names = 0;
    DIR *dir = opendir(".");

    while (dir && readdir(dir))
        names++;
    if (dir)
        closedir(dir);
    if (!getcwd(place, sizeof place))
        FAILED("getcwd: %s\n", strerror(errno));
    below = strstr(place, strrchr(folder, '/')); /* a folder that is mapped has another name there */
    printf("%s: %s, %d names, file %d, upper %d, ..: %d, open %d, sub %d\n", what, below ? below : place, names,
           stat("file", &file) ? errno : (int)file.st_size, access("../file", R_OK) ? errno : 0,
           stat("..", &top) ? errno : 0, close(open("file", O_RDONLY)), access("sub", X_OK) ? errno : 0);
    fflush(stdout);
}

static void told(const char *what, int failed)
{
    printf("%s: %d\n", what, failed);
    here(what);
}

static void spawned(const char *self)
{
    posix_spawn_file_actions_t actions;
    char *words[] = {(char *)self, "where", (char *)folder, NULL};
    pid_t pid;
    int status = -1;

    posix_spawn_file_actions_init(&actions);
#ifdef __GLIBC__
    posix_spawn_file_actions_addchdir_np(&actions, in("sub"));
#else
    must(in("sub"));
#endif
    if (posix_spawn(&pid, self, &actions, NULL, words, environ) || waitpid(pid, &status, 0) != pid)
        status = -2;
    printf("spawned: %d\n", status);
}

static void vforked(const char *self)
{
    pid_t pid = vfork();
    int status = -1;

    if (pid == 0) {
        if (go(in("sub")) == 0)
            execl(self, self, "where", folder, NULL);
        _exit(99);
    }
    waitpid(pid, &status, 0);
    printf("vforked: %d\n", status);
}

static void every(const char *self)
{
    int before = descriptors(), status = 0;

    must("/");
    told("nowhere", go(in("no")));
    told("a file", go(in("file")));
    told("a file's below", go(in("file/x")));
    told("no address", go((const char *)1));
    told("the folder", go(folder));
    told("a slash", go(in("sub/")));
    told("a link", go(in("rel")));
    told("an absolute link", go(in("abs")));
    told("a link to a file", go(in("tofile")));
    told("dots", go(in("sub/..")));
    told("dots at the end", go(in("sub/.")));
    told("relative", go("sub"));
    told("relative, up", go(".."));
    told("relative to nowhere", go("no"));
    fflush(stdout);
    if (fork() == 0) {
        here("fork");
        must(in("sub"));
        execl(self, self, "where", folder, NULL);
    }
    wait(&status);
    told("the child went, not we", status);
    vforked(self);
    spawned(self);
    printf("descriptors: %d\n", descriptors() - before);
}

/* What is in each register that the kernel keeps, and the flags, before and after. */
static void registers(void)
{
#ifdef __x86_64__
    for (int i = 0; i < 100; i++) {
        const char *path = in("sub");
        uint64_t bad;
        register uint64_t r8 __asm__("r8") = 8, r9 __asm__("r9") = 9, r10 __asm__("r10") = 10, r12 __asm__("r12") = 12;
        register uint64_t r13 __asm__("r13") = 13, r14 __asm__("r14") = 14, r15 __asm__("r15") = 15;
        uint64_t di = (uint64_t)path, si = 6, dx = 7, ax = SYS_chdir, bx = 3;

        __asm__ volatile("std\n\tsyscall\n\tpushf\n\tpop %%rcx\n\tcld"
                         : "+a"(ax), "+b"(bx), "+D"(di), "+S"(si), "+d"(dx), "+r"(r8), "+r"(r9), "+r"(r10), "+r"(r12),
                           "+r"(r13), "+r"(r14), "+r"(r15), "=c"(bad)
                         :
                         : "r11", "memory");
        if (ax || bx != 3 || di != (uint64_t)path || si != 6 || dx != 7 || r8 != 8 || r9 != 9 || r10 != 10 ||
            r12 != 12 || r13 != 13 || r14 != 14 || r15 != 15 || !(bad & 0x400) || bad & 0x100)
            FAILED("a register is another\n");
    }
#endif
    printf("registers kept\n");
}

static void ring(int number)
{
    rung += number == SIGALRM;
}

static void look_after(void)
{
    struct stat got;

    must(in("sub"));
    if (stat("deep", &got) || stat("../file", &got))
        FAILED("not there: %s\n", strerror(errno));
    must(folder);
    if (stat("file", &got))
        FAILED("not back: %s\n", strerror(errno));
}

static void storm(int count)
{
    struct sigaction action = {.sa_handler = ring, .sa_flags = SA_RESTART};
    struct itimerval each = {{0, 1000}, {0, 1000}}, never = {{0, 0}, {0, 0}};
    sigset_t before, after;
    int open = descriptors();

    sigaction(SIGALRM, &action, NULL);
    sigprocmask(SIG_SETMASK, NULL, &before);
    setitimer(ITIMER_REAL, &each, NULL);
    for (int i = 0; i < count; i += 2)
        look_after();
    setitimer(ITIMER_REAL, &never, NULL);
    sigprocmask(SIG_SETMASK, NULL, &after);
    printf("rung %d, mask %d, descriptors %d\n", rung > 10, memcmp(&before, &after, 8), descriptors() - open);
}

/* Realtime signals with a value, each sent once: none is lost, and none comes twice. */
static int values[4096];

static void value(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)context;
    values[info->si_value.sival_int]++;
}

static void queued(int count)
{
    struct sigaction action = {.sa_sigaction = value, .sa_flags = SA_RESTART | SA_SIGINFO};
    pid_t ours = getpid(), pid;
    int status, got = 0;

    sigaction(SIGRTMIN, &action, NULL);
    pid = fork();
    if (pid == 0) {
        for (int i = 0; i < count; i++) {
            while (sigqueue(ours, SIGRTMIN, (union sigval){.sival_int = i}) < 0)
                ;
            usleep(300);
        }
        _exit(0);
    }
    while (waitpid(pid, &status, WNOHANG) == 0)
        look_after();
    for (int i = 0; i < count; i++)
        got += values[i] == 1;
    printf("of %d signals %d\n", count, got);
}

static void stopped(int count)
{
    pid_t pid = fork();
    struct timespec pause = {0, 500000};
    int status, seen = 0;

    if (pid == 0) {
        for (int i = 0; i < count; i += 2)
            look_after();
        _exit(42);
    }
    for (;;) {
        nanosleep(&pause, NULL);
        kill(pid, SIGSTOP);
        if (waitpid(pid, &status, WUNTRACED) != pid || !WIFSTOPPED(status))
            break;
        seen++;
        kill(pid, SIGCONT);
    }
    printf("stopped %d, then %d\n", seen > 10, WIFEXITED(status) ? WEXITSTATUS(status) : -1);
}

static void *walk(void *count)
{
    for (int i = 0; i < *(int *)count; i++)
        must(in(i % 2 ? "sub" : ""));
    return NULL;
}

static void *look(void *unused)
{
    struct stat got;

    while (!done)
        if (stat(in("file"), &got) || got.st_size != 3)
            FAILED("stat: %s\n", strerror(errno));
    return unused;
}

static void threads(int count)
{
    pthread_t walkers[THREADS], lookers[2];
    int open = descriptors();

    for (int i = 0; i < THREADS; i++)
        pthread_create(&walkers[i], NULL, walk, &count);
    for (int i = 0; i < 2; i++)
        pthread_create(&lookers[i], NULL, look, NULL);
    for (int i = 0; i < THREADS; i++)
        pthread_join(walkers[i], NULL);
    done = 1;
    for (int i = 0; i < 2; i++)
        pthread_join(lookers[i], NULL);
    printf("threads, descriptors %d\n", descriptors() - open);
}

static void full(void)
{
    struct rlimit limit = {32, 32};
    int before;

    setrlimit(RLIMIT_NOFILE, &limit);
    must("/");
    while (dup(0) >= 0)
        ;
    before = go(in("sub"));
    close(31);
    printf("full: %d, with room: %d\n", before, go(in("sub")));
}

/* Another thread ends the process, or makes another program of it, which ends by 7 as well. */
static void *ends(void *after)
{
    usleep((useconds_t)*(int *)after);
    exit(7);
}

static void *becomes(void *after)
{
    usleep((useconds_t)*(int *)after);
    execl("/proc/self/exe", "chdirs", "7", NULL);
    return NULL;
}

static void goes_until(int way, int after)
{
    void *(*others[])(void *) = {NULL, walk, ends, becomes};
    int many = 1000000;
    pthread_t other;

    if (way)
        pthread_create(&other, NULL, others[way], way == 1 ? &many : &after);
    for (;;) {
        must(in("sub"));
        must(folder);
    }
}

/* Children, each ended at another moment: killed, without and with threads; ended by a thread of its own. */
static void killed(int count)
{
    int wrong = 0, status;
    pid_t pid;

    for (int i = 0; i < count; i++) {
        pid = fork();
        if (pid == 0)
            goes_until(i % 4, i * 37 % 2500);
        usleep((useconds_t)(i * 53 % 2500));
        if (i % 4 < 2)
            kill(pid, SIGKILL);
        wrong += waitpid(pid, &status, 0) != pid || status != (i % 4 < 2 ? SIGKILL : 7 << 8);
    }
    printf("killed, wrong %d\n", wrong);
}

/* The program itself, which is pymirror's child. */
static void suicide(int way, int after)
{
    pid_t ours = getpid();

    if (way < 2 && fork() == 0) {
        usleep((useconds_t)after);
        kill(ours, SIGKILL);
        _exit(0);
    }
    goes_until(way, after);
}

int main(int words, char **word)
{
    int count = words > 3 ? atoi(word[3]) : 1000;

    setvbuf(stdout, NULL, _IOLBF, 0);
    folder = words > 2 ? word[2] : "/";
    switch (words > 1 ? word[1][0] : 0) {
    case 'e': every(word[0]); break;
    case 'w': here("run"); break;
    case 'r': registers(); break;
    case 's': storm(count); break;
    case 'q': queued(count); break;
    case 'z': stopped(count); break;
    case 't': threads(count); break;
    case 'f': full(); break;
    case 'k': killed(count); break;
    case '0': case '1': case '2': case '3': suicide(word[1][0] - '0', count); break;
    case '7': return 7;
    default: return 2;
    }
    return 0;
}
