"""tools/fuzz_server.py: a few hundred malformed requests against a server, and that the program sees what it must."""

from __future__ import annotations

import grpc
import numpy as np
import pytest
from fuzz_requests import Attack, SlowLoris, make_corpus, send_http

import served
from fuzz_server import LEAKS, Attacker, Report, attack
from scripted import scripted_server


@pytest.fixture(scope="module")
def server(exported):
    with served.serving(exported.parent) as server:
        yield server


def test_malformed_requests_leave_the_server_as_it_was(server):
    # Memory settles over thousands of requests; the program itself holds it to 10 %.
    report = attack(server, count=400, loris=8, warmup=120, concurrency=4, seed=1, memory_share=0.2)
    assert report.problems == []
    assert server.alive()
    statuses = {status for found in report.answers.values() for status in found}
    assert {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "UNIMPLEMENTED"} <= statuses
    assert sum(sum(found.values()) for found in report.answers.values()) == 400
    assert len(report.answers) >= 10
    assert f"({report.growth:+.1%})" in report.text()


def test_the_same_seed_is_the_same_attack(server):
    corpus = make_corpus(server.address)
    first, second, other = ([corpus.attack(np.random.default_rng(seed), True) for _ in range(30)] for seed in (3, 3, 4))
    assert first == second
    assert first != other


@pytest.mark.parametrize(
    "text",
    [
        "Traceback (most recent call last):",
        '  File "server.py", line 3, in answer',
        "assertion failed: [x] [1 0]\n\t [[{{function_node __inference_embedding_8802}}{{node Assert/Assert}}]]",
        "No such file: /tmp/exported/1/saved_model.pb",
        "tensorflow/core/framework/op_kernel.cc:1827",
        "Graph execution error: Detected at node mul",
    ],
)
def test_the_inside_of_a_server_is_seen(text):
    assert LEAKS.search(text)

    def leak(number, request, context):
        context.abort(grpc.StatusCode.INTERNAL, text)

    with scripted_server(leak) as (address, _):
        attacker = Attacker(served.Served(None, int(address.split(":")[1]), 0, None), None, Report())
        attacker.send(Attack("kind", b"", "Predict"))
        attacker.send(Attack("kind", b"", "Predict"))
    assert attacker.report.answers == {"kind": {"INTERNAL": 2}}
    (problem,) = attacker.report.problems
    assert problem.startswith("expected no internals of the server in a reply to kind. Received: ")


@pytest.mark.parametrize(
    "text",
    [
        "input size does not match signature: 0!=1 len({}) != len({x}). Sent extra: {}. Missing but required: {x}.",
        'Serving signature key "../../etc/passwd" not found.',
        "Expects arg[0] to be float but string is provided",
    ],
)
def test_the_texts_of_the_contract_are_no_leaks(text):
    assert LEAKS.search(text) is None


def test_a_reply_that_changes_is_a_problem(server, monkeypatch):
    corpus = make_corpus(server.address)
    attacker = Attacker(server, corpus, Report())
    attacker.check()
    attacker.check()
    assert attacker.report.problems == []
    scores = corpus.scores
    monkeypatch.setattr(corpus, "scores", lambda answer: scores(answer) + 0.1)
    attacker.check()
    (problem,) = attacker.report.problems
    assert problem.startswith("expected the same reply as before, ")


def test_connections_that_dribble_and_such_that_nobody_answers():
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with SlowLoris([port]):
            connection, _ = listener.accept()
            with connection:
                assert connection.recv(1) == b"P"
    assert send_http(port, b"GET / HTTP/1.1\r\n\r\n")[0] == "closed"
