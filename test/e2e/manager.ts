/** What systemd is to a service: a datagram socket that gets its messages. */
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { loadSystem } from '../../drivers/owner/linux/system.ts'

const [AF_UNIX, SOCK_DGRAM_CLOEXEC, SOL_SOCKET, SO_RCVBUF, MSG_DONTWAIT] = [1, 0o2000002, 1, 8, 0x40]

export interface Message {
  /** performance.now() at which it was read. */
  readonly at: number
  readonly fields: Readonly<Record<string, string>>
}

export class ServiceManager {
  readonly path: string
  readonly #fd: number
  readonly #messages: Message[] = []

  constructor(folder: string) {
    this.path = join(folder, 'notify')
    const system = loadSystem()
    this.#fd = system.bind('socket', 'int', ['int', 'int', 'int'])(AF_UNIX, SOCK_DGRAM_CLOEXEC, 0)
    const address = Buffer.concat([Buffer.from([AF_UNIX, 0]), Buffer.from(`${this.path}\0`)])
    system.bind('bind', 'int', ['int', 'void*', 'uint'])(this.#fd, address, address.length)
    const size = new Uint8Array(Int32Array.of(1 << 20).buffer)
    system.bind('setsockopt', 'int', ['int', 'int', 'int', 'void*', 'uint'])(this.#fd, SOL_SOCKET, SO_RCVBUF, size, 4)
  }

  /** Everything that came so far. */
  get messages(): readonly Message[] {
    const recv = loadSystem().bind('recv', 'long', ['int', 'void*', 'size_t', 'int'])
    const bytes = Buffer.alloc(8192)
    for (;;) {
      let length: number
      try {
        length = recv(this.#fd, bytes, bytes.length, MSG_DONTWAIT)
      } catch {
        return this.#messages
      }
      const pairs = bytes
        .toString('utf8', 0, length)
        .split('\n')
        .map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)] as const)
      this.#messages.push({ at: performance.now(), fields: Object.fromEntries(pairs) })
    }
  }

  /** The first message with this assignment. */
  first(name: string): Message | undefined {
    return this.messages.find(({ fields }) => fields[name] !== undefined)
  }

  count(name: string): number {
    return this.messages.filter(({ fields }) => fields[name] !== undefined).length
  }

  /** The last line for `systemctl status`. */
  get status(): string {
    return this.messages.findLast(({ fields }) => fields.STATUS !== undefined)?.fields.STATUS ?? ''
  }

  close(): void {
    rmSync(this.path, { force: true })
  }
}
