/* The face of the C part towards Python, and the only header cffi reads: so no #include and no guard
   (parts.h adds both). Rules: integers and flat structs only; a function that can fail returns 0 or a
   positive errno; nothing here decides what a path means, that is Python's, once, and then the table's. */

enum pm_kind { PM_OPEN_READ, PM_OPEN_WRITE, PM_STAT, PM_ACCESS_READ, PM_ACCESS_WRITE, PM_READLINK,
               PM_STATFS, PM_HOSTNAME, PM_CHANGE, PM_OTHER, PM_WATCH, PM_KINDS, PM_CONNECT = PM_KINDS, PM_SENDTO, PM_BIND,
               PM_LISTEN };
enum pm_call { PM_CALL_OPEN = 1, PM_CALL_STAT = 2, PM_CALL_ACCESS = 4, PM_CALL_READLINK = 8,
               PM_CALL_STATFS = 16, PM_CALL_HOSTNAME = 32, PM_CALL_CONNECT = 64, PM_CALL_SENDTO = 128,
               PM_CALL_BIND = 256, PM_CALL_LISTEN = 512, PM_CALL_CHANGE = 1024, PM_CALL_OTHER = 2048,
               PM_CALL_WATCH = 4096 };
enum pm_verdict { PM_ASK, PM_CONTINUE, PM_ERRNO, PM_TREE_PATH, PM_TEXT, PM_ADDRESS, PM_TRIES };
enum pm_transport { PM_TCP, PM_UDP, PM_UNIX, PM_UNIXPACKET, PM_NO_TRANSPORT };
enum pm_counter { PM_RECEIVED, PM_ANSWERED_LOCAL, PM_ASKED, PM_CARRIED, PM_COUNTERS };

enum { PM_LONGEST = 4098 }; /* a path, plus a trailing slash and the NUL */

typedef struct pm_pump pm_pump;

/* value: the path below root for PM_TREE_PATH, the text for PM_TEXT; for PM_ADDRESS the relay's socket
   address, the introduction and the name shown, each after a byte with its length, for PM_TRIES as many addresses.
   code: for PM_ERRNO. */
typedef struct {
    int verdict;
    int code;
    int root;
    int size;
    const char *value;
} pm_answer;

/* A call the table does not know. path: from PM_CONNECT on it is a socket address, and what follows path is about the
   socket. system: of PM_OTHER, the system call's name. device: the number of the network device it is bound to. again: the wait for it was given up, and what was
   begun goes on. bound: of PM_LISTEN, where it is really bound. shares_port: it has SO_REUSEPORT. */
typedef struct {
    unsigned long long cookie;
    int kind;
    int follow;
    unsigned int pid;
    int size;
    const char *path;
    const char *system;
    int domain;
    int transport;
    int blocking;
    int device;
    int again;
    int shares_port;
    int bound_size;
    char bound[28];
    unsigned long long socket;
} pm_question;

/* envp and argv end with NULL; shell_argv is argv for /bin/sh, used when the file is no binary and has
   no #! line; ignored: bits of signal numbers the program starts with ignored. Out: pid, listener,
   stage (what failed, a word of spawn.c). */
typedef struct {
    const char *path;
    char **argv;
    char **shell_argv;
    char **envp;
    unsigned int calls;
    unsigned long long ignored;
    int pid;
    int listener;
    const char *stage;
} pm_order;

/* A signal as it came; from_user: by kill() and the like, not by the terminal or the kernel. */
typedef struct {
    int number;
    int from_user;
    int sender;
} pm_signal;

int pm_probe(const char **stage);
int pm_spawn(pm_order *order);

pm_pump *pm_pump_new(const char **skip, int skips);
int pm_pump_start(pm_pump *pump, int listener);
int pm_pump_stop(pm_pump *pump, int milliseconds);
void pm_pump_free(pm_pump *pump);
int pm_pump_event(pm_pump *pump);
int pm_pump_next(pm_pump *pump, pm_question *question, char *path); /* path: room for PM_LONGEST */
int pm_pump_reply(pm_pump *pump, unsigned long long cookie, const pm_answer *answer);
long long pm_pump_count(pm_pump *pump, int counter);

/* Whose connections to the program's listeners are: all three a struct sockaddr_in6, IPv4 mapped. */
int pm_guest_put(pm_pump *pump, const char *door, const char *client, const char *address);
void pm_guest_drop(pm_pump *pump, const char *door);

/* follow: 0, 1, or -1 for both; tree: also for everything below path. */
int pm_learn(pm_pump *pump, int kind, int follow, int tree, const char *path, int size, const pm_answer *answer);

/* The verdict on a socket's datagrams to that address does not hold any more: Python is asked about the next. */
int pm_forget(pm_pump *pump, unsigned long long socket, const char *address, int size);

/* For tests, as tables: what is known of a path (an enum pm_verdict); whether a socket's name is kept, or put it
   there; what a socket of that domain is told of a peer (its client, or the address that it spoke to): its size, 0 for
   what the kernel says; a path's normal form. */
int pm_known(pm_pump *pump, int kind, int follow, const char *path);
int pm_named(pm_pump *pump, unsigned long long socket, int put);
int pm_guest(pm_pump *pump, const char *peer, int size, int domain, int client, char *into);
int pm_normalise(const char *raw, char *into, int *slash);

/* As waitpid with WNOHANG and WUNTRACED, or -errno. While a thread of the pump makes the child change its folder it is
   0, too, and SIGCHLD comes when that is done. */
int pm_child_wait(int pid, int *status);

int pm_signals_take(int write_end, unsigned long long numbers);
void pm_signals_give_back(void);
