/** The two sockets of systemd's units, in either order, as a process gets them. */
import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { loadSystem } from '../../../../drivers/owner/linux/system.ts'
import { ROOT } from '../../../project/tree.ts'
import { bundle } from '../sandbox/cage.ts'

const [AF_INET, SOCK_DGRAM, SOCK_CLOEXEC] = [2, 2, 0o2000000]

interface Told {
  given: Record<string, string>
  saved: { listener: { fd: number; port: number } | null; discovery: number | null }
  taken: Record<string, string>
  back: Record<string, string>
  LISTEN_FDS: string
}

test.runIf(process.platform === 'linux')(
  'HANDOVER 16.6: of the sockets of systemd, in any order, the stream is the address and the datagram socket is for discovery',
  async () => {
    const folder = mkdtempSync(join(tmpdir(), 'medulla-sockets-'))
    onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
    symlinkSync(join(ROOT, 'node_modules'), join(folder, 'node_modules'))
    const child = bundle(join(ROOT, 'test/runtime/body/service/children/takes.ts'), folder)
    const datagram = loadSystem().bind('socket', 'int', ['int', 'int', 'int'])(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)
    onTestFinished(() => closeSync(datagram))
    const server = createServer().listen(0, '127.0.0.1')
    onTestFinished(() => void server.close())
    await once(server, 'listening')
    const { port } = server.address() as AddressInfo
    const stream = (server as unknown as { _handle: { fd: number } })._handle.fd
    const ran = (...sockets: number[]): Told => {
      const env = { PATH: process.env.PATH, LISTEN_FDS: String(sockets.length), NODE_NO_WARNINGS: '1' }
      const stdio = ['ignore' as const, 'pipe' as const, 'inherit' as const, ...sockets]
      return JSON.parse(spawnSync(process.execPath, [child], { env, stdio, encoding: 'utf8' }).stdout)
    }
    for (const [sockets, at] of [
      [[stream, datagram], { listener: '3', discovery: '4' }],
      [[datagram, stream], { listener: '4', discovery: '3' }],
    ] as const) {
      const { given, saved, taken, back, LISTEN_FDS } = ran(...sockets)
      expect(saved.listener?.port).toBe(port)
      expect(taken[String(saved.listener?.fd)]).toBe(given[at.listener])
      expect(taken[String(saved.discovery)]).toBe(given[at.discovery])
      // what systemd gave is closed: copies that no child gets have taken its place
      expect([taken['3'], taken['4']]).not.toContain(given['3'])
      expect([LISTEN_FDS, back['3'], back['4']]).toEqual(['2', given[at.listener], given[at.discovery]])
    }
    expect(ran(stream).saved).toMatchObject({ listener: { port }, discovery: null })
  },
)
