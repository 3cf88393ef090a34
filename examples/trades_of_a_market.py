"""Prints the trades of one market and skips all else unparsed: trades_of_a_market.py MARKET [SERVERS] [TOPIC]"""

import asyncio
import json
import sys

from aiokafka import AIOKafkaConsumer


async def main(market: str, servers: str = "127.0.0.1:9092", topic: str = "cexdex.market.v1") -> None:
    async with AIOKafkaConsumer(topic, bootstrap_servers=servers) as consumer:
        async for message in consumer:
            if message.key == market.encode() and ("type", b"trade") in message.headers:
                trade = json.loads(message.value)
                print(
                    trade["instrument"], trade["taker_side"], trade["size"], "at", trade["price"], flush=True
                )


asyncio.run(main(*sys.argv[1:]))
