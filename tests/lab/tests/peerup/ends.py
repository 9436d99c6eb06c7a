"""How TCP connections end: a server and a client that each see what the other did.

serve PORT           per connection, the client's first line says what the server does, and the server prints what it saw
HOW/NAME HOST PORT [SOCKS_PORT]   the client of one such connection; prints what it saw
"""
import socket
import struct
import sys
import threading

BULK = 3_000_000


def reset(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def read_to_end(connection):
    count = 0
    try:
        while data := connection.recv(65536):
            count += len(data)
    except ConnectionResetError:
        return f"reset after {count}"
    return f"end after {count}"


def line(connection):
    text = b""
    while not text.endswith(b"\n"):
        byte = connection.recv(1)
        if not byte:
            break
        text += byte
    return text.decode().strip()


def serve_one(connection):
    asked = line(connection)
    how = asked.split("/")[0]
    if how == "server-resets":
        connection.sendall(b"half of it")
        # Read by the client before the reset, which overtakes what waits.
        line(connection)
        reset(connection)
        print(asked, "done", flush=True)
    elif how == "server-resets-after-the-end":
        print(asked, read_to_end(connection), flush=True)
        reset(connection)
    elif how in ("client-resets", "client-ends"):
        connection.sendall(b"ready\n")
        print(asked, read_to_end(connection), flush=True)
        connection.sendall(b"x" * BULK) if how == "client-ends" else None
        connection.close()
    elif how == "server-ends":
        connection.sendall(b"x" * BULK)
        connection.shutdown(socket.SHUT_WR)
        print(asked, read_to_end(connection), flush=True)
        connection.close()


def serve(port):
    listener = socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=64)
    print("listening", flush=True)
    while True:
        threading.Thread(target=serve_one, args=(listener.accept()[0],), daemon=True).start()


def connect(host, port, socks=None):
    if socks is None:
        return socket.create_connection((host, port), 20)
    connection = socket.create_connection(("127.0.0.1", socks), 20)
    connection.sendall(b"\x05\x01\x00")
    assert connection.recv(2) == b"\x05\x00"
    connection.sendall(b"\x05\x01\x00\x03" + bytes([len(host)]) + host.encode() + struct.pack(">H", port))
    assert connection.recv(10)[1] == 0
    return connection


def client(how, connection):
    connection.sendall(how.encode() + b"\n")
    how = how.split("/")[0]
    if how == "server-resets":
        half = connection.recv(10, socket.MSG_WAITALL)
        connection.sendall(b"seen\n")
        return half.decode() + ", " + read_to_end(connection)
    if how == "server-resets-after-the-end":
        connection.shutdown(socket.SHUT_WR)
        return read_to_end(connection)
    if how == "client-resets":
        line(connection)
        connection.sendall(b"y" * 1000)
        # Once the server has them: a reset overtakes what waits.
        threading.Event().wait(0.5)
        reset(connection)
        return "done"
    if how == "client-ends":
        line(connection)
        connection.sendall(b"y" * BULK)
        connection.shutdown(socket.SHUT_WR)
        return read_to_end(connection)
    if how == "server-ends":
        seen = read_to_end(connection)
        connection.sendall(b"y" * BULK)
        connection.close()
        return seen
    raise SystemExit(how)


how, *rest = sys.argv[1:]
if how == "serve":
    serve(int(rest[0]))
else:
    host, port, *socks = rest
    print(client(how, connect(host, int(port), *map(int, socks))), flush=True)
