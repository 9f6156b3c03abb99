/* Signals and per-thread timers: <signal.h>, <time.h>. What the watchdog needs to end a guest that never exits. */
#define SIGINT 2
#define SIGUSR1 10
#define SIGUSR2 12
#define SIGALRM 14
#define SIG_BLOCK 0
#define SIG_SETMASK 2
#define SIGEV_THREAD_ID 4
#define CLOCK_MONOTONIC 1

typedef int clockid_t;
typedef void *timer_t;
typedef struct { unsigned long __val[16]; } sigset_t;
typedef struct { int si_signo; int si_errno; int si_code; int __pad0; union { int _pad[28]; struct { void *si_addr; } _sigfault; } _sifields; } siginfo_t;
typedef void (*sighandler_t)(int);

struct timespec { long tv_sec; long tv_nsec; };
struct itimerspec { struct timespec it_interval; struct timespec it_value; };
union sigval { int sival_int; void *sival_ptr; };

/* glibc names the thread id _sigev_un._tid; sigev_notify_thread_id is a macro for it in newer releases. */
struct sigevent {
    union sigval sigev_value;
    int sigev_signo;
    int sigev_notify;
    union {
        int _pad[12];
        int _tid;
    } _sigev_un;
};

int timer_create(clockid_t clock, struct sigevent *event, timer_t *timer);
int timer_settime(timer_t timer, int flags, const struct itimerspec *value, struct itimerspec *previous);
int timer_delete(timer_t timer);
int sigemptyset(sigset_t *set);
int sigaddset(sigset_t *set, int signum);
int sigismember(const sigset_t *set, int signum);
int pthread_sigmask(int how, const sigset_t *set, sigset_t *previous);
int sigtimedwait(const sigset_t *set, siginfo_t *info, const struct timespec *timeout);
sighandler_t signal(int signum, sighandler_t handler);
