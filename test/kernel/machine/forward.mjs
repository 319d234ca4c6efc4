/**
 * Forwards TCP connections of the host to a port of a guest without network, over one serial line. Both ends are here: relay()
 * is the host's, and this file as a program is the guest's:
 *
 *   node forward.mjs /dev/ttyS3 PORT
 *
 * A frame is type (1 byte), number (4 bytes, big-endian), length (2 bytes, big-endian), then so many bytes. The number is
 * that of the connection; of TAKEN, how many bytes of frames the guest has taken off the line since the last one. The host
 * has at most {@link WINDOW} bytes on the way: a serial line of user-mode Linux whose input buffer (4,096 bytes) was full
 * once delivers nothing any more.
 */
import { createReadStream, createWriteStream } from 'node:fs'
import { connect } from 'node:net'
import { fileURLToPath } from 'node:url'

const OPEN = 0
const DATA = 1
const END = 2
const CLOSE = 3
const TAKEN = 4

const HEADER = 7
const WINDOW = 3072
/** Bytes of data in a frame, so that two fit into the window. */
const MOST = 1024

/** @returns {(socket: import('node:net').Socket) => void} takes each connection that the host accepts */
export function relay(line) {
  const link = new Link(line, line, WINDOW)
  let connections = 0
  return (socket) => {
    connections += 1
    link.send(OPEN, connections)
    link.add(connections, socket)
  }
}

class Link {
  #sockets = new Map()
  #input
  #output
  #room
  #waiting = []
  #rest = Buffer.alloc(0)
  #onOpen

  constructor(input, output, window = Number.POSITIVE_INFINITY, onOpen) {
    this.#input = input
    this.#output = output
    this.#room = window
    this.#onOpen = onOpen
    input.on('data', (bytes) => this.#take(bytes))
    // the guest has ended, so all connections end
    input.on('close', () => {
      for (const socket of this.#sockets.values()) socket.destroy()
    })
    output.on('error', () => {})
    output.on('drain', () => this.#write())
  }

  add(id, socket) {
    this.#sockets.set(id, socket)
    socket.on('data', (bytes) => {
      for (let at = 0; at < bytes.length; at += MOST) this.send(DATA, id, bytes.subarray(at, at + MOST))
      if (this.#waiting.length > 0) socket.pause()
    })
    socket.on('end', () => this.send(END, id))
    socket.on('error', () => {})
    // the line waits for the slowest open connection
    socket.on('drain', () => this.#input.resume())
    socket.on('close', () => {
      this.#input.resume()
      if (this.#sockets.delete(id)) this.send(CLOSE, id)
    })
  }

  send(type, number, bytes = Buffer.alloc(0)) {
    const header = Buffer.alloc(HEADER)
    header.writeUInt8(type, 0)
    header.writeUInt32BE(number, 1)
    header.writeUInt16BE(bytes.length, 5)
    // the remaining bytes of a closed connection are dropped
    if (type === CLOSE)
      this.#waiting = this.#waiting.filter((frame) => frame[0] !== DATA || frame.readUInt32BE(1) !== number)
    this.#waiting.push(Buffer.concat([header, bytes]))
    this.#write()
  }

  #write() {
    while (this.#waiting.length > 0 && this.#waiting[0].length <= this.#room && !this.#output.writableNeedDrain) {
      const frame = this.#waiting.shift()
      this.#room -= frame.length
      this.#output.write(frame)
    }
    if (this.#waiting.length === 0) for (const socket of this.#sockets.values()) socket.resume()
  }

  #take(bytes) {
    let rest = Buffer.concat([this.#rest, bytes])
    let taken = 0
    while (rest.length >= HEADER) {
      const end = HEADER + rest.readUInt16BE(5)
      if (rest.length < end) break
      this.#frame(rest.readUInt8(0), rest.readUInt32BE(1), rest.subarray(HEADER, end))
      rest = rest.subarray(end)
      taken += end
    }
    this.#rest = rest
    if (taken > 0 && this.#onOpen !== undefined) this.send(TAKEN, taken)
  }

  #frame(type, number, bytes) {
    if (type === OPEN) return this.#onOpen(this, number)
    if (type === TAKEN) {
      this.#room += number
      return this.#write()
    }
    const socket = this.#sockets.get(number)
    if (type === DATA && socket?.write(bytes) === false) this.#input.pause()
    else if (type === END) socket?.end()
    else if (type === CLOSE && this.#sockets.delete(number)) socket?.destroy()
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [, , path, port] = process.argv
  // Not by node:tty, which writes a carriage return before each line feed. init.sh has made the line raw.
  const [input, output] = [createReadStream(path), createWriteStream(path, { flags: 'r+' })]
  new Link(input, output, undefined, (link, id) => {
    link.add(id, connect({ host: '127.0.0.1', port: Number(port), allowHalfOpen: true }))
  })
}
