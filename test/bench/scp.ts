/** Invariant: the server listens on the loopback only, knows one throw-away key, and is gone with the bench. */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, rmdirSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { ENV, ended, start } from './rig.ts'

/** sshd insists on this folder when it is root. */
const PRIVSEP = '/run/sshd'

export interface Scp {
  /** Copies a file to the other side with a new connection; resolves with the time it took, from the spawn to the exit. */
  copy(file: string): Promise<number>
  stop(): void
}

/** A reason when it cannot be had. */
export async function startScp(folder: string): Promise<Scp | string> {
  const sshd = ['/usr/sbin/sshd', '/usr/local/sbin/sshd', '/sbin/sshd'].find((path) => existsSync(path))
  if (sshd === undefined) return 'there is no sshd'
  const [host, user] = [join(folder, 'host'), join(folder, 'user')]
  for (const key of [host, user]) {
    const made = spawnSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', key], { stdio: 'ignore' })
    if (made.status !== 0) return 'ssh-keygen does not work'
  }
  const port = await freePort()
  const lines = [
    `Port ${port}`,
    'ListenAddress 127.0.0.1',
    `HostKey ${host}`,
    `AuthorizedKeysFile ${user}.pub`,
    'StrictModes no',
    'PasswordAuthentication no',
    'PermitRootLogin prohibit-password',
    `PidFile ${join(folder, 'pid')}`,
    'Subsystem sftp internal-sftp',
    'UseDNS no',
  ]
  await writeFile(join(folder, 'sshd_config'), `${lines.join('\n')}\n`)
  const made = makePrivsep()
  const server = start(sshd, ['-D', '-e', '-f', join(folder, 'sshd_config')], { stdio: ['ignore', 'ignore', 'pipe'] })
  const over = ended(server)
  const stop = () => {
    server.kill('SIGTERM')
    if (made) rmdirSync(PRIVSEP)
  }
  if (!(await answers(port))) {
    stop()
    return `sshd does not start: ${(await over).stderr.trim().split('\n').at(-1) ?? ''}`
  }
  const options = [
    ['StrictHostKeyChecking', 'no'],
    ['UserKnownHostsFile', '/dev/null'],
    ['GlobalKnownHostsFile', '/dev/null'],
    ['IdentitiesOnly', 'yes'],
    ['IdentityAgent', 'none'],
    ['BatchMode', 'yes'],
    ['LogLevel', 'ERROR'],
  ].flatMap(([key, value]) => ['-o', `${key}=${value}`])
  const target = `${userInfo().username}@127.0.0.1:${join(folder, 'arrived')}`
  const scp: Scp = {
    stop,
    async copy(file) {
      const began = performance.now()
      const args = ['-q', '-F', '/dev/null', '-P', String(port), '-i', user, ...options, file, target]
      const { status, stderr } = await ended(start('scp', args, { env: ENV, stdio: ['ignore', 'ignore', 'pipe'] }))
      if (status !== 0) throw new Error(`scp ended with ${status}: ${stderr.trim()}`)
      return performance.now() - began
    },
  }
  try {
    await scp.copy(`${user}.pub`)
    await readFile(join(folder, 'arrived'))
    return scp
  } catch (error) {
    stop()
    return error instanceof Error ? error.message : String(error)
  }
}

function makePrivsep(): boolean {
  try {
    mkdirSync(PRIVSEP, { mode: 0o755 })
    return true
  } catch {
    return false
  }
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const address = server.address()
      server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0))
    })
  })
}

async function answers(port: number): Promise<boolean> {
  for (let tries = 0; tries < 100; tries++) {
    const there = await new Promise<boolean>((resolve) => {
      const socket = connect({ host: '127.0.0.1', port })
      socket.once('error', () => resolve(false))
      socket.once('data', () => {
        socket.destroy()
        resolve(true)
      })
    })
    if (there) return true
    await sleep(20)
  }
  return false
}
