"""Prints every spread that can be believed, as it is published: spreads.py [SERVERS] [TOPIC]"""

import asyncio
import json
import sys

from aiokafka import AIOKafkaConsumer


async def main(servers: str = "127.0.0.1:9092", topic: str = "cexdex.spreads.v1") -> None:
    async with AIOKafkaConsumer(topic, bootstrap_servers=servers) as consumer:
        async for message in consumer:
            spread = json.loads(message.value)
            if spread["valid"] and spread["net_converted_bps"] is not None:
                print(spread["edge"], f"{spread['net_converted_bps']:+.1f} bps after all costs", flush=True)


asyncio.run(main(*sys.argv[1:]))
