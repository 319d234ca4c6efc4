/** Serial lines of a simulated board, with a terminal at the other end (HANDLES 9.10). */
import { execFileSync } from 'node:child_process'
import { closeSync, constants, existsSync, openSync, readlinkSync, readSync, symlinkSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parseBoard } from '../../../../drivers/board/board.ts'
import { grantOf, type OwnedHandle } from '../../../../drivers/owner/backend.ts'
import { SimBackend } from '../../../../drivers/owner/sim/backend.ts'
import { World } from '../../../../drivers/owner/sim/world.ts'
import { OP } from '../../../../drivers/program/broker/protocol.ts'
import { bundle, type Host, openFds, startHost, temporary } from '../../host.ts'
import { FIRST_FD } from '../../rigs.ts'

const folder = temporary()
afterAll(() => folder.remove())
const links = join(folder.path, 'serial')
const link = join(links, 'gps')
const TERMINAL = constants.O_RDWR | constants.O_NOCTTY | constants.O_NONBLOCK

const entry = parseBoard(
  JSON.stringify({ model: 'sim', handles: { gps: { kind: 'serial', path: '/dev/serial0', baud: 9600 } } }),
  'board.json',
).handles.gps
const backendOf = () => new SimBackend({ world: new World(), folder: null, links })

function opened(backend: SimBackend): OwnedHandle {
  if (entry === undefined) throw new Error('expected an entry')
  return backend.open('gps', 1, entry)
}

/** The other end, as a terminal program opens it. */
function person() {
  const fd = openSync(link, TERMINAL)
  const bytes = Buffer.alloc(65_536)
  const read = (): string => {
    try {
      return bytes.toString('latin1', 0, readSync(fd, bytes))
    } catch {
      return ''
    }
  }
  return { type: (text: string) => void writeSync(fd, text), read, leave: () => closeSync(fd) }
}

describe.runIf(process.platform === 'linux')('a simulated serial line', () => {
  let program: string
  beforeAll(async () => {
    program = await bundle('children/host.ts', folder.path)
  })

  const start = async (owned: OwnedHandle): Promise<Host> => {
    const source = owned.grant()
    if (source.via !== 'inherit') throw new Error('expected a descriptor')
    const host = await startHost(program, [grantOf(owned, source, FIRST_FD)], [source.fd])
    await host.send({ op: 'lease', lease: { live: true, fence: 1 } })
    return host
  }
  const said = async (host: Host) => String.fromCharCode(...((await host.call('gps', 'read', 4096)) as number[]))

  test('HANDLES 9.10: both ends send and receive, and a swap loses nothing', async () => {
    const before = openFds()
    const backend = backendOf()
    const owned = opened(backend)
    expect([owned.link, owned.value(), owned.grant()]).toEqual([
      link,
      undefined,
      expect.objectContaining({ encoding: 'pty' }),
    ])
    expect(execFileSync('stty', ['-F', link, '-a'], { encoding: 'utf8' })).toMatch(/speed 9600 .*-icanon.*-echo /s)
    let host = await start(owned)
    const ann = person()
    ann.type('hi\r\n\x03')
    let heard = ''
    await expect.poll(async () => (heard += await said(host))).toBe('hi\r\n\x03')
    // raw, and no echo
    expect([await said(host), ann.read()]).toEqual(['', ''])
    await host.call('gps', 'write', [...Buffer.from('$GPGGA\n')])
    let seen = ''
    await expect.poll(() => (seen += ann.read())).toBe('$GPGGA\n')
    await host.end()
    ann.type('for the next one')
    ann.leave()
    host = await start(owned)
    expect(await said(host)).toBe('for the next one')
    expect(await said(host)).toBe('')
    await host.end()
    expect(backend.info('gps')).toMatchObject({ opens: 1, initWrites: 0, edges: 0 })
    backend.close()
    expect(existsSync(link)).toBe(false)
    expect(openFds()).toBe(before)
  })

  test('HANDLES 9.10: a write neither blocks nor throws when nobody is at the other end, or nobody reads', async () => {
    const backend = backendOf()
    const host = await start(opened(backend))
    const flood = { op: 'time', handle: 'gps', method: 'write', args: [Array(1024).fill(0x55)], times: 300 }
    await host.send(flood)
    const ann = person()
    // as much as the kernel buffers; all further bytes are dropped
    while (ann.read() !== '');
    await host.send(flood)
    expect(ann.read()).toMatch(/^U+$/)
    while (ann.read() !== '');
    await host.call('gps', 'write', [0x41])
    await expect.poll(() => ann.read()).toBe('A')
    ann.leave()
    await host.call('gps', 'write', [0x42])
    expect(await said(host)).toBe('')
    await host.end()
    backend.close()
  })

  test('HANDLES 3.9: an adopted line continues, and an old link is replaced', async () => {
    const backend = backendOf()
    const owned = opened(backend)
    const ann = person()
    ann.type('before')
    const kept = backend.info('gps')?.kept
    if (kept === undefined) throw new Error('expected an open handle')
    const heir = backendOf()
    const adopted = heir.adopt('gps', 1, owned.entry, kept)
    expect(readlinkSync(link)).toMatch(/^\/dev\/pts\/\d+$/)
    const host = await start(adopted)
    expect(await said(host)).toBe('before')
    await host.end()
    ann.leave()
    heir.close()
    symlinkSync('/dev/pts/99999', link)
    const next = backendOf()
    opened(next)
    expect(readlinkSync(link)).not.toBe('/dev/pts/99999')
    next.close()
  })

  test('a serial line has no value and no requests', () => {
    const backend = backendOf()
    const owned = opened(backend)
    for (const op of [OP.get, OP.set, OP.i2cRead]) {
      expect(() => owned.request(op, new Uint8Array(8), 0)).toThrow(expect.objectContaining({ kind: 'unsupported' }))
    }
    backend.close()
    expect(() => opened(new SimBackend({ world: new World(), folder: null }))).toThrow(
      'serial lines are not simulated here',
    )
  })
})
