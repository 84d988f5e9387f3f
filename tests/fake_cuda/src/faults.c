/* What touches memory that is not allocated answers 700, like a device, and ends no process. */
#define _GNU_SOURCE
#include "fake.h"
#include <setjmp.h>
#include <signal.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static __thread sigjmp_buf way_out;
static __thread volatile int is_guarded;
static const int SIGNALS[] = {SIGSEGV, SIGBUS};
static struct sigaction previous[2];

static void on_fault(int number, siginfo_t *info, void *context) {
    if (is_guarded) {
        is_guarded = 0;
        siglongjmp(way_out, 1);
    }
    /* Not ours: let it happen again, to whoever listened before. */
    sigaction(number, &previous[number == SIGBUS], NULL);
}

/* Each time anew: others listen for faults too (Python's faulthandler), and the last one wins.
 * Not on the thread's alternate stack: OpenVINO leaves one behind whose memory is gone, and a fault
 * of a kernel is no overflow of the stack. */
static void catch_faults(void) {
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO}, now;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < 2; i++) {
        sigaction(SIGNALS[i], NULL, &now);
        if (now.sa_sigaction != on_fault) {
            previous[i] = now;
            sigaction(SIGNALS[i], &action, NULL);
        }
    }
    pthread_mutex_unlock(&lock);
}

Status fake_guarded(void (*act)(void *what), void *what) {
    catch_faults();
    if (sigsetjmp(way_out, 1))
        return ILLEGAL_ADDRESS;
    is_guarded = 1;
    act(what);
    is_guarded = 0;
    return SUCCESS;
}
