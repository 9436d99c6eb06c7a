"""Many TCP connections: an echo server, and clients that come at once or one after another."""
import asyncio
import resource
import socket
import sys


def serve(port):
    async def echo(reader, writer):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def main():
        server = await asyncio.start_server(echo, "127.0.0.1", port, backlog=4096)
        print("serving", flush=True)
        await server.serve_forever()

    asyncio.run(main())


async def at_once(port, count):
    together = asyncio.Event()
    connected = 0

    async def one(number):
        nonlocal connected
        word = f"connection {number}\n".encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(word)
        assert await reader.readexactly(len(word)) == word
        connected += 1
        if connected == count:
            together.set()
        # Nobody leaves before everybody is there.
        await together.wait()
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()

    await asyncio.gather(*(one(number) for number in range(count)))
    print(f"{count} answered at once")


def in_turn(port, count):
    for number in range(count):
        word = f"connection {number}\n".encode()
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(word)
            client.shutdown(socket.SHUT_WR)
            got = b""
            while data := client.recv(4096):
                got += data
            assert got == word, (number, got)
    print(f"{count} answered in turn")


hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
how, port, *count = sys.argv[1:]
if how == "serve":
    serve(int(port))
elif how == "at-once":
    asyncio.run(at_once(int(port), int(count[0])))
else:
    in_turn(int(port), int(count[0]))
