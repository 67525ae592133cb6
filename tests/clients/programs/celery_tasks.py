"""The tasks of the Celery test; BROKER and TRACE (a file that each run of a task appends to) are in the environment."""
import os
import time

from celery import Celery

app = Celery("tasks", broker=os.environ["BROKER"], backend="rpc://")
app.conf.update(task_default_queue=os.environ["QUEUE"], task_acks_late=True, worker_prefetch_multiplier=2,
                broker_connection_retry_on_startup=True, worker_hijack_root_logger=False,
                task_reject_on_worker_lost=True)


def trace(text):
    with open(os.environ["TRACE"], "a") as out:
        out.write(text + "\n")


@app.task
def add(x, y):
    return x + y


@app.task(bind=True, max_retries=5)
def flaky(self, succeed_at):
    trace(f"flaky {self.request.retries}")
    if self.request.retries < succeed_at:
        raise self.retry(countdown=0.2)
    return self.request.retries


@app.task(bind=True)
def slow(self, seconds):
    trace(f"slow {self.request.delivery_info['redelivered']}")
    time.sleep(seconds)
    trace("slow done")
    return "done"
