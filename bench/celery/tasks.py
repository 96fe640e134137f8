"""The tasks of the canvas benchmark, and Celery as the benchmark sets it up."""

import os

from celery import Celery

app = Celery("canvas", broker=os.environ["RABBITMQ_URL"], backend=os.environ["REDIS_URL"])
app.conf.update(
    task_acks_late=True,
    task_default_queue=os.environ["CELERY_QUEUE"],
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
)


@app.task
def append(number, digit):
    return 10 * number + digit


@app.task
def total(numbers):
    return sum((index + 1) * number for index, number in enumerate(numbers))
