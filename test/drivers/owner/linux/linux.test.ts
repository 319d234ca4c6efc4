/** Tests of the Linux backend that run on any Linux kernel. Those with GPIO lines and buses are in test/kernel/. */
import { spawnSync } from 'node:child_process'
import { closeSync, constants, openSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { HardwareError } from '../../../../drivers/errors.ts'
import { LevelEdges } from '../../../../drivers/owner/legacy/leveledges.ts'
import { EdgeReader } from '../../../../drivers/owner/linux/edges.ts'
import { loadSystem } from '../../../../drivers/owner/linux/system.ts'
import { LINE_EVENT_SIZE } from '../../../../drivers/owner/linux/uapi.ts'
import type { Edge, Grant, Output } from '../../../../drivers/program/handle.ts'
import { adopt } from '../../../../drivers/program/inherit/index.ts'
import { ScratchSystem } from '../../../../runtime/sdk/dummies.ts'
import { openFds, temporary } from '../../host.ts'

const FIONREAD = 0x541b
const F_GETFD = 1
const PR_GET_DUMPABLE = 3

const folder = temporary()
afterAll(() => folder.remove())

let fifos = 0
/** Both ends of a pipe, each an open file of its own. */
function pipe(): { read: number; write: number; close(): void } {
  const path = join(folder.path, `${++fifos}.fifo`)
  expect(spawnSync('mkfifo', [path]).status).toBe(0)
  const read = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
  const write = openSync(path, constants.O_WRONLY)
  return {
    read,
    write,
    close() {
      closeSync(read)
      closeSync(write)
    },
  }
}

function thrown(work: () => unknown): Error & { code?: string; kind?: string } {
  try {
    work()
  } catch (error) {
    return error as Error
  }
  throw new Error('nothing was thrown')
}

/** An event as the kernel writes it (struct gpio_v2_line_event). */
function event(level: 0 | 1, lineSeqno: number, ns = 1000n): Uint8Array {
  const bytes = new Uint8Array(LINE_EVENT_SIZE)
  const view = new DataView(bytes.buffer)
  view.setBigUint64(0, ns, true)
  view.setUint32(8, level === 1 ? 1 : 2, true)
  view.setUint32(20, lineSeqno, true)
  return bytes
}

describe.runIf(process.platform === 'linux')('system calls', () => {
  const system = process.platform === 'linux' ? loadSystem() : (null as never)

  test('an ioctl reads and writes its argument', () => {
    const { read, write, close } = pipe()
    writeSync(write, 'seven..')
    const count = new Uint8Array(16)
    expect(system.ioctl(read, FIONREAD, count)).toBe(0)
    expect([...count.subarray(0, 4)]).toEqual([7, 0, 0, 0])
    close()
  })

  test('a failed call throws an error as node:fs does', () => {
    const error = thrown(() => system.ioctl(-1, FIONREAD, new Uint8Array(16)))
    expect(error.message).toBe('EBADF: bad file descriptor, ioctl')
    expect(error).toMatchObject({ code: 'EBADF', errno: -9, syscall: 'ioctl' })
    const fd = openSync('/dev/null', 'r')
    expect(thrown(() => system.ioctl(fd, 0xc010b40f, new Uint8Array(16))).code).toBe('ENOTTY')
    closeSync(fd)
  })

  test('the address of a buffer is that of its first byte, and does not change', () => {
    const bytes = new Uint8Array(4096)
    expect(system.address(bytes)).toBe(system.address(bytes))
    expect(system.address(bytes.subarray(16)) - system.address(bytes)).toBe(16n)
  })

  test('functions of libc, syscalls and prctl', () => {
    const fcntl = system.bind('fcntl', 'int', ['int', 'int', 'int'])
    // Node opens everything close-on-exec
    const fd = openSync('/dev/null', 'r')
    expect(fcntl(fd, F_GETFD, 0)).toBe(1)
    closeSync(fd)
    expect(thrown(() => fcntl(fd, F_GETFD, 0)).code).toBe('EBADF')
    expect(system.prctl(PR_GET_DUMPABLE)).toBeGreaterThanOrEqual(0)
    expect(thrown(() => system.syscall(-1)).code).toBe('ENOSYS')
  })

  test('execve replaces the program of a process, which keeps its pid and its open descriptors', async () => {
    const system = new URL('../../../../dist/drivers/owner/linux/system.js', import.meta.url).href
    const script = `
      const { loadSystem } = await import(${JSON.stringify(system)})
      process.stdout.write(process.pid + '\\n')
      try { loadSystem().execve('/no/such', ['x'], {}) } catch (error) { process.stdout.write(error.code + '\\n') }
      try { loadSystem().execve('/bin/sh', ['x\\0y'], {}) } catch (error) { process.stdout.write(error.message + '\\n') }
      loadSystem().execve('/bin/sh', ['sh', '-c', 'echo $$ "$0" "$1" "$A" "$HOME"; cat', 'ä b', ''], { A: 'c=d' })`
    const { status, stdout } = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
      encoding: 'utf8',
      input: 'what stdin held\n',
    })
    const [pid, ...lines] = stdout.trim().split('\n')
    expect(lines).toEqual(['ENOENT', 'EINVAL: a text for execve has a NUL', `${pid} ä b  c=d `, 'what stdin held'])
    expect(status).toBe(0)
  })

  test('poll returns the readable descriptors, or none after the timeout', () => {
    const one = pipe()
    const two = pipe()
    const from = performance.now()
    expect(system.poll([one.read, two.read], 30)).toEqual([])
    expect(performance.now() - from).toBeGreaterThan(25)
    writeSync(two.write, 'x')
    expect(system.poll([one.read, two.read], 1000)).toEqual([two.read])
    // hung up
    closeSync(one.write)
    expect(system.poll([one.read], 1000)).toEqual([one.read])
    expect(system.poll([], 0)).toEqual([])
    closeSync(one.read)
    two.close()
  })

  test('HANDLES 11.5: all edges are read in order, and a gap is logged', async () => {
    const before = openFds()
    const notes: string[] = []
    const edges = new EdgeReader(system, (text) => notes.push(text))
    const { read, write, close } = pipe()
    const line = edges.follow('button', read, 0)
    const heard: Edge[] = []
    line.onEdge((edge) => heard.push(edge))
    // more than one batch
    for (let n = 1; n <= 150; n++) writeSync(write, event((n % 2) as 0 | 1, n, BigInt(n)))
    await expect.poll(() => heard).toHaveLength(150)
    expect(heard.map(({ seqno }) => seqno)).toEqual(Array.from({ length: 150 }, (_, index) => index + 1))
    expect(heard[6]).toEqual({ level: 1, ns: 7n, seqno: 7 })
    expect(line.lost).toBe(0)
    writeSync(write, event(0, 154))
    await expect.poll(() => line.seqno).toBe(154)
    expect(line.lost).toBe(3)
    expect(notes).toEqual(['button: 3 edges lost before number 154'])
    line.close()
    writeSync(write, event(0, 155))
    await new Promise((resolve) => setTimeout(resolve, 20))
    expect(line.seqno).toBe(154)
    close()
    await expect.poll(openFds).toBe(before)
  })

  test('another reader continues after the last edge, also past 32 bits', async () => {
    const { read, write, close } = pipe()
    const first = new EdgeReader(system, () => {}).follow('button', read, 0xfffffffe)
    writeSync(write, event(1, 0xffffffff))
    await expect.poll(() => first.seqno).toBe(0xffffffff)
    first.close()
    writeSync(write, event(0, 0))
    const second = new EdgeReader(system, () => {}).follow('button', read, first.seqno)
    const heard: number[] = []
    second.onEdge(({ seqno }) => heard.push(seqno))
    await expect.poll(() => heard).toEqual([2 ** 32])
    expect(second.lost).toBe(0)
    second.close()
    close()
  })

  test('two lines at once, and a listener that closes its own line', async () => {
    const edges = new EdgeReader(system, () => {})
    const one = pipe()
    const two = pipe()
    const first = edges.follow('one', one.read, 0)
    const second = edges.follow('two', two.read, 0)
    const heard: string[] = []
    first.onEdge(({ seqno }) => {
      heard.push(`one#${seqno}`)
      first.close()
    })
    second.onEdge(({ seqno }) => heard.push(`two#${seqno}`))
    for (const n of [1, 2]) {
      writeSync(one.write, event(1, n))
      writeSync(two.write, event(1, n))
    }
    await expect.poll(() => heard.filter((text) => text.startsWith('two'))).toEqual(['two#1', 'two#2'])
    expect(heard.filter((text) => text.startsWith('one'))).toEqual(['one#1'])
    second.close()
    one.close()
    two.close()
  })

  test('HANDLES 11.6: a failed descriptor is logged once and no longer read', async () => {
    const notes: string[] = []
    const edges = new EdgeReader(system, (text) => notes.push(text))
    // a file, which cannot be watched, is refused at once
    const file = openSync(folder.path, 'r')
    expect(() => edges.follow('button', file, 0)).toThrow(HardwareError)
    closeSync(file)
    // the write end of a pipe without readers reports an error, and cannot be read
    const { read, write } = pipe()
    closeSync(read)
    edges.follow('button', write, 0)
    await expect.poll(() => notes).toEqual(['button: no more edges: EBADF: bad file descriptor, read'])
    await new Promise((resolve) => setTimeout(resolve, 20))
    expect(notes).toHaveLength(1)
    closeSync(write)
  })

  test('HANDLES 11.13: a rehearsal makes real ioctls, on a scratch file', () => {
    const grant: Grant = { name: 'led', id: 1, kind: 'output', via: 'inherit', encoding: 'line' }
    const lease = { live: true, fence: 1 }
    expect(thrown(() => adopt({ ...grant, fd: 1 }, lease, { system: null, broker: null })).kind).toBe('unsupported')
    const path = join(folder.path, 'scratch')
    writeFileSync(path, '')
    const fd = openSync(path, 'r+')
    // the descriptor is no line: a real ioctl fails, a rehearsed one must not
    const real = adopt({ ...grant, fd }, lease, { system, broker: null }) as Output
    const error = thrown(() => real.write(1))
    expect(error).toBeInstanceOf(HardwareError)
    expect(error.kind).toBe('other')
    real.close()
    const scratch = openSync(path, 'r+')
    const transports = { system: new ScratchSystem(system, scratch), broker: null }
    const rehearsed = adopt({ ...grant, fd: scratch }, lease, transports) as Output
    rehearsed.write(1)
    expect(rehearsed.value).toBe(1)
    rehearsed.close()
  })
})

describe('edges of a line that only notifies changes (HANDLES 11.9)', () => {
  const made = (edges: 'rising' | 'falling' | 'both', debounceMs: number, seqno = 0) => {
    const line = { level: 0 as 0 | 1 }
    const levels = new LevelEdges({ edges, debounceMs }, () => line.level, seqno)
    const heard: string[] = []
    levels.onEdge((edge) => heard.push(`${edge.level}#${edge.seqno}`))
    const change = (level: 0 | 1) => {
      line.level = level
      levels.notified(level)
    }
    return { levels, heard, change }
  }

  test('are numbered on from the last one, and have the time of the notification', () => {
    const { levels, heard, change } = made('both', 0, 4)
    const from = process.hrtime.bigint()
    let ns = 0n
    levels.onEdge((edge) => {
      ns = edge.ns
    })
    change(1)
    change(0)
    expect(heard).toEqual(['1#5', '0#6'])
    expect(ns).toBeGreaterThanOrEqual(from)
    levels.close()
    change(1)
    expect(heard).toHaveLength(2)
  })

  test('only edges of the requested kind count', () => {
    const { heard, change } = made('rising', 0)
    for (const level of [1, 0, 1] as const) change(level)
    expect(heard).toEqual(['1#1', '1#2'])
  })

  test('a level counts after the debounce period', async () => {
    const { heard, change } = made('both', 15)
    for (const level of [1, 0, 1, 0] as const) change(level)
    await new Promise((resolve) => setTimeout(resolve, 40))
    expect(heard).toEqual([])
    for (const level of [1, 0, 1] as const) change(level)
    await expect.poll(() => heard).toEqual(['1#1'])
  })
})
