// What ThreadSanitizer does not see of threads, made visible to it. To be preloaded.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <threads.h>

// Swift's Mutex: where threads contend for it, it is locked and unlocked within a library that is not instrumented, by the kernel.

void __tsan_acquire(void *address);
void __tsan_release(void *address);

#define LOCK_SLOW "$s15Synchronization12_MutexHandleV9_lockSlowyys6UInt32VF"
#define UNLOCK_SLOW "$s15Synchronization12_MutexHandleV11_unlockSlowyyF"
#define SWIFT __attribute__((swiftcall))
#define SELF __attribute__((swift_context)) void *handle

SWIFT void lock_slow(uint32_t owner, SELF) __asm__(LOCK_SLOW);
SWIFT void unlock_slow(SELF) __asm__(UNLOCK_SLOW);

SWIFT void lock_slow(uint32_t owner, SELF) {
  ((SWIFT void (*)(uint32_t, SELF))dlsym(RTLD_NEXT, LOCK_SLOW))(owner, handle);
  __tsan_acquire(handle);
}

SWIFT void unlock_slow(SELF) {
  __tsan_release(handle);
  ((SWIFT void (*)(SELF))dlsym(RTLD_NEXT, UNLOCK_SLOW))(handle);
}

// C11's threads, by POSIX': ThreadSanitizer knows no thread that librdkafka starts by thrd_create, and fails in it.

struct start {
  thrd_start_t body;
  void *argument;
};

static void *run(void *raw) {
  struct start start = *(struct start *)raw;
  free(raw);
  return (void *)(long)start.body(start.argument);
}

static int result(int status) {
  switch (status) {
  case 0: return thrd_success;
  case EBUSY: return thrd_busy;
  case ENOMEM: return thrd_nomem;
  case ETIMEDOUT: return thrd_timedout;
  default: return thrd_error;
  }
}

int thrd_create(thrd_t *thread, thrd_start_t body, void *argument) {
  struct start *start = malloc(sizeof *start);
  if (!start) return thrd_nomem;
  *start = (struct start){body, argument};
  return result(pthread_create(thread, NULL, run, start));
}

int thrd_join(thrd_t thread, int *value) {
  void *raw;
  int status = pthread_join(thread, &raw);
  if (value) *value = (int)(long)raw;
  return result(status);
}

int thrd_detach(thrd_t thread) { return result(pthread_detach(thread)); }

// glibc's mtx_t and cnd_t are its pthread_mutex_t and pthread_cond_t.

int mtx_init(mtx_t *mutex, int type) {
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  if (type & mtx_recursive) pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE);
  int status = pthread_mutex_init((pthread_mutex_t *)mutex, &attributes);
  pthread_mutexattr_destroy(&attributes);
  return result(status);
}

void mtx_destroy(mtx_t *mutex) { pthread_mutex_destroy((pthread_mutex_t *)mutex); }
int mtx_lock(mtx_t *mutex) { return result(pthread_mutex_lock((pthread_mutex_t *)mutex)); }
int mtx_trylock(mtx_t *mutex) { return result(pthread_mutex_trylock((pthread_mutex_t *)mutex)); }
int mtx_unlock(mtx_t *mutex) { return result(pthread_mutex_unlock((pthread_mutex_t *)mutex)); }
int cnd_init(cnd_t *condition) { return result(pthread_cond_init((pthread_cond_t *)condition, NULL)); }
void cnd_destroy(cnd_t *condition) { pthread_cond_destroy((pthread_cond_t *)condition); }
int cnd_signal(cnd_t *condition) { return result(pthread_cond_signal((pthread_cond_t *)condition)); }
int cnd_broadcast(cnd_t *condition) { return result(pthread_cond_broadcast((pthread_cond_t *)condition)); }
int cnd_wait(cnd_t *condition, mtx_t *mutex) { return result(pthread_cond_wait((pthread_cond_t *)condition, (pthread_mutex_t *)mutex)); }
int cnd_timedwait(cnd_t *condition, mtx_t *mutex, const struct timespec *time) {
  return result(pthread_cond_timedwait((pthread_cond_t *)condition, (pthread_mutex_t *)mutex, time));
}
