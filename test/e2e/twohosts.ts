/**
 * A robot's computer and a laptop in two network namespaces with a wire between them, each with a host name, processes and a home of
 * its own. Nothing is sent to the network of this computer. Needs Linux, root, and iproute2, util-linux and procps of Debian.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { CLI } from '../deploy/laptop/cli/medulla.ts'
import { eventually, SCALE } from './eventually.ts'

const NAMES = { laptop: `medulla-a${process.pid}`, rover: `medulla-b${process.pid}` } as const
export type HostName = keyof typeof NAMES

const ip = (...args: string[]): boolean => spawnSync('ip', args, { stdio: 'ignore' }).status === 0

/** Null where this user may not make namespaces, or a program that they need is absent. `folder`: for files of both. */
export async function twoHosts(folder: string): Promise<TwoHosts | null> {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) return null
  if (['unshare', 'nsenter', 'script', 'pkill'].some((name) => spawnSync('which', [name]).status !== 0)) return null
  const { laptop, rover } = NAMES
  const wired = [
    ip('netns', 'add', rover),
    ip('netns', 'add', laptop),
    ip('link', 'add', 'eth0', 'netns', rover, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', laptop),
    ip('-n', rover, 'addr', 'add', '10.77.0.1/24', 'dev', 'eth0'),
    ip('-n', laptop, 'addr', 'add', '10.77.0.2/24', 'dev', 'eth0'),
    ...[rover, laptop].flatMap((name) => ['lo', 'eth0'].map((link) => ip('-n', name, 'link', 'set', link, 'up'))),
  ].every(Boolean)
  const hosts = new TwoHosts(folder)
  if (wired && (await hosts.begin())) return hosts
  await hosts.close()
  return null
}

export class TwoHosts {
  readonly #bin: string
  readonly #passwd: string
  readonly #holders: Partial<Record<HostName, ChildProcess>> = {}
  readonly #pids: Partial<Record<HostName, number>> = {}

  constructor(folder: string) {
    this.#bin = join(folder, 'bin')
    this.#passwd = join(folder, 'passwd')
    mkdirSync(this.#bin)
    writeFileSync(join(this.#bin, 'medulla'), `#!/bin/sh\nexec '${process.execPath}' '${CLI}' "$@"\n`, { mode: 0o755 })
    writeFileSync(this.#passwd, 'ada:x:0:0::/home/ada:/bin/sh\n')
  }

  /** A process in each, which keeps its namespaces. */
  async begin(): Promise<boolean> {
    const mounts = {
      laptop: `mount -t tmpfs none /home && mkdir /home/ada && mount --bind '${this.#passwd}' /etc/passwd`,
      rover: 'mount -t tmpfs none /var/lib && mkdir -m 700 /var/lib/medulla',
    }
    for (const host of ['laptop', 'rover'] as const) {
      const script = `hostname ${host} && ${mounts[host]} && echo ready && exec sleep infinity`
      const within = ['unshare', '--uts', '--pid', '--fork', '--kill-child', '--mount-proc', 'sh', '-c', script]
      const child = spawn('ip', ['netns', 'exec', NAMES[host], ...within], { stdio: ['ignore', 'pipe', 'ignore'] })
      this.#holders[host] = child
      const said: Buffer[] = []
      child.stdout.on('data', (bytes: Buffer) => said.push(bytes))
      await eventually(() => said.length > 0 || child.exitCode !== null)
      if (said.length === 0) return false
      this.#pids[host] = await eventually(() => firstChild(child.pid ?? 0))
    }
    return true
  }

  /** What to spawn for this command on that host. `bare`: without a terminal, as a command in the background has none. */
  command(host: HostName, command: string, bare = false): string[] {
    const env = [`PATH=${this.#bin}:${process.env.PATH}`, 'HOME=/home/ada', 'TERM=xterm', 'NO_COLOR=1']
    if (SCALE !== 1) env.push(`MEDULLA_TIME_SCALE=${SCALE}`)
    const shell = ['sh', '-c', `cd ${host === 'laptop' ? '/home/ada' : '/'}; ${command}`]
    const inTerminal = [
      'script',
      '-qfec',
      shell.map((word) => `'${word.replaceAll("'", `'\\''`)}'`).join(' '),
      '/dev/null',
    ]
    const run = bare ? shell : inTerminal
    return ['nsenter', '-t', String(this.#pids[host]), '-m', '-u', '-n', '-p', '--', 'env', '-i', ...env, ...run]
  }

  /** Runs a command in a terminal of 80 columns; `typed` are texts to type after the question that each follows. */
  async run(host: HostName, command: string, typed: Readonly<Record<string, string>> = {}): Promise<string[]> {
    const [file = '', ...args] = this.command(host, command)
    const child = spawn(file, args, { stdio: ['pipe', 'pipe', 'inherit'] })
    let text = ''
    const left = new Map(Object.entries(typed))
    child.stdout.setEncoding('utf8').on('data', (more: string) => {
      text += more
      for (const [question, answer] of left) {
        if (!text.includes(question)) continue
        left.delete(question)
        child.stdin.write(`${answer}\r`)
      }
    })
    await new Promise((resolve) => child.once('close', resolve))
    // what stands after the last clearing of a line stays on the screen
    return text.split('\n').map((line) => (line.split('\x1b[2K').at(-1) ?? '').trimEnd())
  }

  /** A command that goes on; it ends with the hosts. Its outputs go to `file`, if there is one. */
  start(host: HostName, command: string): ChildProcess {
    const [file = '', ...args] = this.command(host, command, true)
    return spawn(file, args, { stdio: ['ignore', 'pipe', 'pipe'] })
  }

  /** Ends every process in them. */
  async close(): Promise<void> {
    for (const child of Object.values(this.#holders)) {
      child.kill('SIGKILL')
      await eventually(() => child.exitCode !== null || child.signalCode !== null)
    }
    for (const pid of Object.values(this.#pids)) {
      if (isThere(pid)) process.kill(pid, 'SIGKILL')
      await eventually(() => !isThere(pid))
    }
    for (const name of Object.values(NAMES)) ip('netns', 'del', name)
  }
}

const isThere = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

/** The shell in its own process namespace: the child of unshare, which `ip` has become. */
function firstChild(pid: number): number | null {
  const [first = ''] = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ')
  return first === '' ? null : Number(first)
}
