"""A client of memcached: memcached_client.py PORT THREADS. Each thread stores values on a connection of its own and
compares what comes back; prints the counts, its own and the server's, as JSON."""

import concurrent.futures
import json
import random
import socket
import sys

ROUNDS = 400
LARGEST = 1 << 20


class Connection:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.answers = self.socket.makefile("rb")

    def set(self, key, value):
        self.socket.sendall(b"set %s 0 0 %d\r\n%s\r\n" % (key, len(value), value))
        self._expect(b"STORED")

    def get(self, *keys):
        """The values of all keys, in their order."""
        self.socket.sendall(b"get %s\r\n" % b" ".join(keys))
        values = []
        for key in keys:
            word, name, _, size = self.answers.readline().split()
            if (word, name) != (b"VALUE", key):
                sys.exit(f"{word} {name} came where the value of {key} should")
            values.append(self.answers.read(int(size)))
            self._expect(b"")
        self._expect(b"END")
        return values

    def statistics(self):
        self.socket.sendall(b"stats\r\n")
        found = {}
        while (line := self.answers.readline().split()) != [b"END"]:
            found[line[1].decode()] = line[2].decode()
        return found

    def close(self):
        self.answers.close()
        self.socket.close()

    def _expect(self, word):
        if (line := self.answers.readline()) != word + b"\r\n":
            sys.exit(f"memcached answered {line!r} where {word!r} was due")


def work(port, number):
    """What one thread does. Returns how many sets and gets it made, and the bytes of the values both ways."""
    chance = random.Random(number)
    connection = Connection(port)
    stored = {}
    sets = gets = size = 0
    for round_ in range(ROUNDS):
        key = b"key-%d-%d" % (number, round_ % 20)
        length = LARGEST - 100 if round_ % 100 == 50 else chance.choice((1, 100, 4096, 16384, 20000))
        stored[key] = chance.randbytes(length)
        connection.set(key, stored[key])
        asked = [key] if length > 20000 else chance.sample(sorted(stored), min(3, len(stored)))
        if connection.get(*asked) != [stored[name] for name in asked]:
            sys.exit(f"the values of {asked} came back changed")
        sets, gets = sets + 1, gets + len(asked)
        size += length + sum(len(stored[name]) for name in asked)
    connection.close()
    return sets, gets, size


def main():
    port, threads = int(sys.argv[1]), int(sys.argv[2])
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        results = list(pool.map(lambda number: work(port, number), range(threads)))
    sets, gets, size = map(sum, zip(*results))
    connection = Connection(port)
    statistics = connection.statistics()
    connection.close()
    print(json.dumps({"sets": sets, "gets": gets, "bytes": size, "server_sets": int(statistics["cmd_set"]),
                      "server_hits": int(statistics["get_hits"])}))


main()
