// One end of an interoperability test on js-libp2p; crates/transport/examples/interop.rs is the other end.
//
//   node peer.mjs listen tcp|quic    prints its address and echoes streams until it is killed
//   node peer.mjs dial ADDRESS       sends 8 MiB through the echo there, fails unless they come back
//
// The protocol is a raw echo: what arrives is sent back, and the end of one direction ends the other.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { quic } from '@chainsafe/libp2p-quic'
import { tcp } from '@libp2p/tcp'
import { tls } from '@libp2p/tls'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'

const PROTOCOL = '/peerup/interop/1.0.0'
const BYTES = 8 << 20
const CHUNK = 64 << 10
const SEED = 0x9e3779b9

// One transport each, so that nothing else can be negotiated. QUIC needs no encrypter and no muxer.
const STACKS = {
  tcp: {
    addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
    transports: [tcp()],
    connectionEncrypters: [tls()],
    streamMuxers: [yamux()]
  },
  quic: {
    addresses: { listen: ['/ip4/127.0.0.1/udp/0/quic-v1'] },
    transports: [quic()]
  }
}

const [, , command, argument] = process.argv
if (command === 'listen' && argument in STACKS) {
  await listen(STACKS[argument])
} else if (command === 'dial' && argument != null) {
  await dial(multiaddr(argument))
} else {
  throw new Error('usage: peer.mjs listen tcp|quic, or peer.mjs dial ADDRESS')
}

async function listen (stack) {
  const host = await start(stack)
  await host.handle(PROTOCOL, echo)
  console.log(host.getMultiaddrs()[0].toString())
}

async function echo (stream) {
  for await (const chunk of stream) {
    await send(stream, chunk.subarray())
  }
  await stream.close()
}

async function dial (address) {
  const { addresses, ...stack } = STACKS[address.toString().includes('/quic-v1') ? 'quic' : 'tcp']
  const host = await start(stack)
  const connection = await host.dial(address)
  assert.equal(connection.remotePeer.toString(), address.toString().split('/p2p/')[1], 'somebody else answers')

  const stream = await connection.newStream(PROTOCOL)
  const sent = seededBytes()
  const [received] = await Promise.all([collect(stream), sendAll(stream, sent)])
  assert.equal(received.length, sent.length)
  assert.ok(received.equals(sent), 'the bytes differ')
  await host.stop()
}

// The connection monitor would open streams for a ping that the other end does not speak.
function start (stack) {
  return createLibp2p({ ...stack, connectionMonitor: { enabled: false } })
}

async function collect (stream) {
  const chunks = []
  for await (const chunk of stream) {
    chunks.push(chunk.subarray())
  }
  return Buffer.concat(chunks)
}

// Ends the direction after the last byte; the other one stays open.
async function sendAll (stream, bytes) {
  await send(stream, bytes)
  await stream.close()
}

// Leaves no bytes in the stream's queue: js-libp2p turns the queue into one yamux frame as large as the window of the
// other end allows, and rust-yamux refuses frames of more than 1 MiB. Its onDrain() waits only the first time.
async function send (stream, bytes) {
  for (let at = 0; at < bytes.length; at += CHUNK) {
    stream.send(bytes.subarray(at, at + CHUNK))
    if (stream.writeBufferLength > 0) {
      await once(stream, 'idle')
    }
  }
}

// xorshift32
function seededBytes () {
  const words = new Uint32Array(BYTES / 4)
  let state = SEED
  for (let at = 0; at < words.length; at++) {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    words[at] = state
  }
  return Buffer.from(words.buffer)
}
