"""What an application does with redis-py, on a node whose port is the first argument.

In the middle it prints `restart`; whoever started it restarts the node and answers with a line.
"""

import sys
import time

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

PORT = int(sys.argv[1])


def connect(protocol, **settings):
    """Who cannot connect tries again, as redis-py does it by itself."""
    retry = Retry(ExponentialBackoff(cap=0.2, base=0.01), 200)
    return redis.Redis(port=PORT, protocol=protocol, decode_responses=True, retry=retry, **settings)


def refused(error, words, call):
    """The client makes this exception of the error that the node answers."""
    try:
        answer = call()
    except error as raised:
        assert type(raised) is error, f"{type(raised)} where {error} is expected"
        assert words in str(raised), f"{raised!r} does not say {words!r}"
    else:
        raise AssertionError(f"{answer!r} where {words!r} is expected")


def gone(node, key):
    """Waits for a key to expire."""
    end = time.monotonic() + 60
    while node.get(key) is not None:
        assert time.monotonic() < end, f"{key} does not expire"
        time.sleep(0.01)


def values(node):
    assert node.set("title", "groceries") is True
    assert node.get("title") == "groceries"
    assert node.get("missing") is None
    assert node.mset({"a": 1, "b": 2.5}) is True
    assert node.mget("a", "b", "missing") == ["1", "2.5", None]
    assert node.append("title", "!") == 10
    assert node.getrange("title", 0, 2) == "gro"
    assert (node.incr("visits"), node.incrby("visits", 41), node.decr("visits")) == (1, 42, 41)
    assert node.incrbyfloat("price", 1.25) == 1.25
    assert node.exists("title", "missing") == 1
    assert node.type("visits") == "string"
    assert node.rename("title", "heading") is True
    assert node.delete("heading", "missing") == 1
    raw = redis.Redis(port=PORT)
    assert raw.set(b"\x00\xff\r\n", b"\r\n\x00\xfe") is True
    assert raw.get(b"\x00\xff\r\n") == b"\r\n\x00\xfe"
    raw.close()


def hashes(node):
    assert node.hset("profile", mapping={"city": "Bergen", "born": 1990}) == 2
    assert node.hgetall("profile") == {"city": "Bergen", "born": "1990"}
    assert node.hincrby("profile", "born", 1) == 1991
    assert node.hmget("profile", "city", "missing") == ["Bergen", None]
    assert node.hexists("profile", "city") is True
    assert node.hdel("profile", "city") == 1
    many = {f"field:{number}": str(number) for number in range(2_000)}
    assert node.hset("many", mapping=many) == 2_000
    assert dict(node.hscan_iter("many", count=100)) == many
    assert set(node.hrandfield("many", 5)) <= set(many)


def sets(node):
    assert node.sadd("fruit", "apples", "pears", "figs") == 3
    assert node.smembers("fruit") == {"apples", "pears", "figs"}
    assert node.sismember("fruit", "figs") == 1
    assert node.smismember("fruit", ["figs", "plums"]) == [1, 0]
    node.sadd("blue", "plums", "figs")
    assert node.sinter("fruit", "blue") == {"figs"}
    assert node.sunionstore("all", "fruit", "blue") == 4
    assert node.scard("all") == 4
    numbers = {str(number) for number in range(2_000)}
    assert node.sadd("numbers", *numbers) == 2_000
    assert set(node.sscan_iter("numbers", match="1*", count=100)) == {n for n in numbers if n.startswith("1")}


def iteration(node):
    keys = {f"page:{number}" for number in range(1_000)}
    with node.pipeline(transaction=False) as pipeline:
        for key in keys:
            pipeline.set(key, key)
        assert pipeline.execute() == [True] * 1_000
    assert set(node.scan_iter("page:*", count=50)) == keys
    assert set(node.scan_iter(_type="set", count=500)) >= {"fruit", "numbers"}
    assert set(node.keys("page:99?")) == {f"page:99{digit}" for digit in range(10)}
    assert node.dbsize() >= 1_000
    assert node.unlink(*keys) == 1_000


def expiry(node):
    assert node.set("session", "s", ex=100) is True
    assert 0 < node.ttl("session") <= 100
    assert node.persist("session") is True
    assert node.ttl("session") == -1
    assert node.ttl("missing") == -2
    assert node.expire("session", 500, gt=True) is False
    assert node.getex("session", px=1) == "s"
    gone(node, "session")
    assert node.set("session", "t", px=3_600_000) is True
    assert node.expiretime("session") > time.time()


def transactions(node):
    with node.pipeline() as batch:
        batch.set("x", 1).incr("x").hset("y", "field", "value").get("x")
        assert batch.execute() == [True, 2, 1, "2"]
    with node.pipeline() as batch:
        batch.incr("x").sadd("x", "no set").incr("x")
        first, error, last = batch.execute(raise_on_error=False)
        assert (first, last) == (3, 4)
        assert isinstance(error, redis.ResponseError) and str(error).startswith("WRONGTYPE")
    with node.pipeline(transaction=False) as many:
        for _ in range(1_000):
            many.incr("counted")
        assert many.execute() == list(range(1, 1_001))


def decisions(node):
    """What only a total order can decide is refused, and nothing of it is done."""
    refused(redis.ResponseError, "CONSISTENCY SET", lambda: node.set("lock", "me", nx=True))
    refused(redis.ResponseError, "CONSISTENCY SPOP", lambda: node.spop("fruit"))
    with node.pipeline() as batch:
        refused(redis.ResponseError, "CONSISTENCY WATCH", lambda: batch.watch("lock"))
    assert node.exists("lock") == 0


def local_decisions(protocol):
    """A keyspace where the view of this node is good enough."""
    node = connect(protocol, db=7)
    assert node.execute_command("TIDE.KEYSPACE", "CONDITIONAL", "7", "LOCAL") in ("OK", b"OK")
    node.flushdb()
    assert node.set("lock", "me", nx=True, px=60_000) is True
    assert node.set("lock", "you", nx=True) is None
    assert node.set("lock", "you", get=True) == "me"
    node.set("stock", 10)

    def take(batch):
        stock = int(batch.get("stock"))
        batch.multi()
        batch.set("stock", stock - 1)

    assert node.transaction(take, "stock") == [True]
    assert node.get("stock") == "9"
    with node.pipeline() as batch:
        batch.watch("stock")
        node.set("stock", 100)
        batch.multi()
        batch.set("stock", 8)
        refused(redis.WatchError, "Watched variable changed", batch.execute)
    assert node.get("stock") == "100"
    node.sadd("queue", "a", "b")
    assert {node.spop("queue"), node.spop("queue"), node.spop("queue")} == {"a", "b", None}
    node.close()


def errors(node):
    node.set("text", "words")
    refused(redis.ResponseError, "WRONGTYPE", lambda: node.sadd("text", "element"))
    refused(redis.ResponseError, "value is not an integer", lambda: node.incr("text"))
    refused(redis.ResponseError, "'EVAL' is not supported", lambda: node.eval("return 1", 0))
    refused(redis.ResponseError, "not supported", lambda: node.register_script("return 1")())
    refused(redis.ResponseError, "unknown command 'NOSUCH'", lambda: node.execute_command("NOSUCH"))
    refused(redis.ResponseError, "wrong number of arguments", lambda: node.execute_command("GET"))
    refused(redis.ResponseError, "not supported", lambda: node.lpush("list", "element"))
    assert node.get("text") == "words"


def introspection(node):
    """What tools ask, in what the client makes of it."""
    assert node.info()["redis_mode"] == "standalone"
    assert node.info("keyspace")
    node.client_setname("tester")
    assert "tester" in [client["name"] for client in node.client_list()]
    assert node.client_id() > 0
    assert "maxclients" in node.config_get("*")
    assert "get" in node.command()
    assert node.command_count() > 100
    assert node.object("encoding", "numbers") == "hashtable"
    assert len(node.time()) == 2
    assert node.ping() is True
    assert node.echo("hello") == "hello"


def session(protocol):
    node = connect(protocol)
    node.flushall()
    for part in [values, hashes, sets, iteration, expiry, transactions, decisions, errors, introspection]:
        part(node)
    local_decisions(protocol)
    return node


older, newer = session(2), session(3)
older.set("kept", "on disk")
print("restart", flush=True)
sys.stdin.readline()
# Both have a connection that is broken now, which nobody told them.
for node in (older, newer):
    assert node.get("kept") == "on disk"
    assert node.incr("restarts") >= 1
assert newer.get("restarts") == "2"
print("done", flush=True)
