/** Serial lines over pseudo-terminals, whose other end the test has. */
import { closeSync, constants, readSync, writeSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { BoardHandle, SerialEntry } from '../../../../drivers/board/types.ts'
import { grantOf } from '../../../../drivers/owner/backend.ts'
import { LinuxBackend } from '../../../../drivers/owner/linux/backend.ts'
import { openSerial } from '../../../../drivers/owner/linux/serial.ts'
import { loadSystem } from '../../../../drivers/owner/linux/system.ts'
import { bundle, failure, openFds, startHost, temporary } from '../../host.ts'
import { refusal } from '../../refusal.ts'
import { FIRST_FD } from '../../rigs.ts'
import { boardOf, context } from './context.ts'

const onLinux = process.platform === 'linux'
const folder = temporary()
afterAll(() => folder.remove())

const O_CLOEXEC = 0o2000000

/** A serial line whose other end this test has (pty(7)). */
function pseudoTerminal(): { fd: number; path: string } {
  const system = loadSystem()
  const fd = system.bind('posix_openpt', 'int', ['int'])(
    constants.O_RDWR | constants.O_NOCTTY | constants.O_NONBLOCK | O_CLOEXEC,
  )
  system.bind('grantpt', 'int', ['int'])(fd)
  system.bind('unlockpt', 'int', ['int'])(fd)
  const name = Buffer.alloc(64)
  system.bind('ptsname_r', 'int', ['int', 'void*', 'size_t'])(fd, name, name.length)
  return { fd, path: name.toString('latin1', 0, name.indexOf(0)) }
}

function readAll(fd: number): string {
  const bytes = Buffer.alloc(256 * 1024)
  let at = 0
  for (;;) {
    try {
      const got = readSync(fd, bytes, at, bytes.length - at, null)
      if (got === 0) break
      at += got
    } catch {
      break
    }
  }
  return bytes.toString('latin1', 0, at)
}

describe.runIf(onLinux)('a serial line', () => {
  let program: string
  beforeAll(async () => {
    program = await bundle('children/host.ts', folder.path)
  })

  function line() {
    const { fd, path } = pseudoTerminal()
    const board = boardOf('pi4', { kind: 'serial', path, baud: 115200, stopBits: 2 })
    const backend = new LinuxBackend({ board })
    const owned = backend.open('it', 1, board.handles.it as BoardHandle)
    return {
      far: fd,
      path,
      backend,
      owned,
      async child() {
        const source = owned.grant()
        const host = await startHost(
          program,
          [grantOf(owned, source, FIRST_FD)],
          source.via === 'inherit' ? [source.fd] : [],
        )
        await host.send({ op: 'lease', lease: { live: true, fence: 1 } })
        const read = async (most = 100) =>
          Buffer.from((await host.call('it', 'read', most)) as number[]).toString('latin1')
        const write = (text: string) => host.call('it', 'write', [...Buffer.from(text)])
        return { host, read, write }
      },
      close() {
        backend.close()
        closeSync(fd)
      },
    }
  }

  test('HANDLES 12.12: the line is raw and has the speed of the board; programs read and write', async () => {
    const before = openFds()
    const { far, path, owned, child, close } = line()
    const settings = await import('node:child_process').then(({ execFileSync }) =>
      execFileSync('stty', ['-a', '-F', path], { encoding: 'utf8', env: { ...process.env, LC_ALL: 'C' } }),
    )
    expect(settings).toMatch(/speed 115200 baud/)
    for (const flag of ['cs8', '-parenb', 'cstopb', '-icanon', '-echo', '-opost', '-hupcl', 'clocal']) {
      expect(settings).toMatch(new RegExp(`(?:^|\\s)${flag}(?:[\\s;]|$)`, 'm'))
    }
    expect(owned.value()).toBeUndefined()
    expect(() => owned.drive(1, 1)).toThrow(expect.objectContaining({ kind: 'unsupported' }))
    const { host, read, write } = await child()
    expect(await read()).toBe('')
    writeSync(far, 'hello\r\n\x03')
    expect(await read(3)).toBe('hel')
    expect(await read()).toBe('lo\r\n\x03')
    await write('AT\n')
    expect(readAll(far)).toBe('AT\n')
    expect(await failure(host.call('it', 'read', -1))).toBe('other')
    await host.send({ op: 'lease', lease: { live: false, fence: 1 } })
    expect(await failure(read())).toBe('revoked')
    expect(await failure(write('x'))).toBe('revoked')
    await host.end()
    close()
    expect(openFds()).toBe(before)
  })

  test('a setting that the line does not have is reported with the words of stty', () => {
    const { fd, path } = pseudoTerminal()
    const { kind, message } = refusal(() =>
      openSerial(context<SerialEntry>('pi4', { kind: 'serial', path, baud: 9600, parity: 'even' })),
    )
    expect([kind, message]).toEqual([
      'unsupported',
      expect.stringMatching(/cannot be set up: stty: .*unable to perform/),
    ])
    closeSync(fd)
  })

  test('HANDLES 12.12: a successor reads what a killed program had not read', async () => {
    const { far, child, close } = line()
    const first = await child()
    writeSync(far, 'one two')
    expect(await first.read(3)).toBe('one')
    await first.host.end('SIGKILL')
    const second = await child()
    expect(await second.read()).toBe(' two')
    await second.write('still raw\n')
    expect(readAll(far)).toBe('still raw\n')
    await second.host.end()
    close()
  })

  test('HANDLES 12.13: a full line throws busy with the number of bytes taken', async () => {
    const { far, owned, close } = line()
    const { adopt } = await import('../../../../drivers/program/inherit/index.ts')
    const source = owned.grant()
    const fd = source.via === 'inherit' ? source.fd : -1
    const port = adopt(grantOf(owned, source, fd), { live: true, fence: 1 }, { system: null, broker: null })
    const { write } = port as unknown as { write(bytes: Uint8Array): void }
    let error: unknown
    const bytes = new Uint8Array(256 * 1024).fill(0x41)
    try {
      write.call(port, bytes)
    } catch (thrown) {
      error = thrown
    }
    const { written } = error as { written: number }
    expect(error).toMatchObject({ kind: 'busy' })
    expect(written).toBeGreaterThan(0)
    expect(readAll(far)).toHaveLength(written)
    close()
  })

  test('HANDLES 3.9: adopting a line does not configure it', async () => {
    const { far, owned, backend, child, close } = line()
    writeSync(far, 'before')
    const kept = backend.info('it')?.kept
    const other = new LinuxBackend({ board: { model: 'pi4' } })
    const adopted = other.adopt('it', 1, owned.entry, kept ?? { fds: [], fence: 0 })
    expect(other.info('it')).toMatchObject({ opens: 0, initWrites: 0, line: expect.stringMatching(/^\/dev\/pts\//) })
    expect(adopted.grant()).toEqual(owned.grant())
    const { host, read } = await child()
    expect(await read()).toBe('before')
    await host.end()
    close()
  })

  test('a line whose other end was closed throws no-device', async () => {
    const { far, backend, child } = line()
    const { host, read } = await child()
    closeSync(far)
    expect(['no-device', 'bus']).toContain(await failure(read()))
    await host.end()
    backend.close()
  })
})
