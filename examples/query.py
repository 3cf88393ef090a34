"""The best spread of every edge as a pandas frame: query.py [DATABASE] [PORT] [PASSWORD_FILE]"""

import sys
from pathlib import Path

import clickhouse_connect


def main(database: str = "cexdex", port: str = "8123", file: str = ".cexdex/clickhouse.password") -> None:
    password = Path(file).read_text().strip()
    client = clickhouse_connect.get_client(port=int(port), password=password, database=database)
    history = client.query_df("SELECT * FROM spread_history WHERE market = 'BTC-USD'")
    best = history.groupby("edge")["max_net_converted_bps"].max().sort_values(ascending=False)
    print(best.head(10).to_string())


main(*sys.argv[1:])
