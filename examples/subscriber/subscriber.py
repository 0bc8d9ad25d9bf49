"""Prints anomalies as they come: `python subscriber.py [broker] [topic] [group]`."""

import asyncio
import json
import sys

from aiokafka import AIOKafkaConsumer


async def main(broker="127.0.0.1:9092", topic="tocsin.anomalies", group="my-subscriber"):
    async with AIOKafkaConsumer(
        topic,
        bootstrap_servers=broker,
        group_id=group,
        isolation_level="read_committed",  # else also what a crashed worker will send again
        auto_offset_reset="earliest",
    ) as consumer:
        async for message in consumer:
            event = json.loads(message.value)
            print(event["status"], event["severity"], event["series"], event["reason"], sep=" | ", flush=True)


asyncio.run(main(*sys.argv[1:]))
