/**
 * Starts the guest for one command. What the command prints comes through one virtio port for each stream, so nothing of
 * the kernel's own console gets between; a third port says how it ended.
 */
import { spawn } from 'node:child_process'
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { cpio } from './cpio.mjs'

const ROOT = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '')

const MEMORY_MB = 3072
const KERNEL = [
  'console=ttyS0 quiet loglevel=4 panic=-1 oops=panic',
  // nothing a test needs, and each costs time where every instruction is translated
  'mitigations=off nokaslr audit=0 apparmor=0 selinux=0 tsc=reliable random.trust_cpu=on raid=noautodetect',
  'cgroup_no_v1=all',
].join(' ')

/**
 * Runs `command` in the guest. Resolves with how it ended: the exit code, or that the time was over, or that the rig
 * itself failed, with the end of the guest's console.
 *
 * @param {{ kernel: string, initrd: string }} image what build() made
 * @param {{ command: string[], cwd: string, env: Record<string, string>, timeoutMs: number, share?: string,
 *   cpus: number, forward?: { host: number, guest: number } }} task
 * @param {{ stdout: NodeJS.WritableStream, stderr: NodeJS.WritableStream }} streams
 * @returns {Promise<{ kind: 'exit', code: number } | { kind: 'interrupted' } | { kind: 'timeout' | 'failed', reason: string, console: string }>}
 */
export async function boot(image, task, streams) {
  const folder = mkdtempSync(join(tmpdir(), 'rig-'))
  try {
    return await run(image, task, streams, folder)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

async function run(image, task, streams, folder) {
  const initrd = join(folder, 'initrd')
  writeFileSync(initrd, Buffer.concat([readFileSync(image.initrd), cpio(told(task))]))
  const consoleLog = join(folder, 'console')
  const status = { text: '' }
  const ports = await Promise.all([
    port(folder, 'stdout', (bytes) => streams.stdout.write(bytes)),
    port(folder, 'stderr', (bytes) => streams.stderr.write(bytes)),
    port(folder, 'status', (bytes) => {
      status.text += bytes.toString()
    }),
  ])
  const error = openSync(join(folder, 'qemu'), 'w')
  // it ends with this process, however that ends
  const command = ['--pdeathsig', 'KILL', 'qemu-system-x86_64', ...arguments_(image, initrd, consoleLog, ports, task)]
  const qemu = spawn('setpriv', command, {
    stdio: ['ignore', 'ignore', error],
  })
  closeSync(error)
  const kill = () => qemu.kill('SIGKILL')
  let interrupted = false
  const interrupt = () => {
    interrupted = true
    kill()
  }
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP']
  for (const signal of signals) process.on(signal, interrupt)
  let late = false
  const timer = setTimeout(() => {
    late = true
    kill()
  }, task.timeoutMs)
  try {
    await new Promise((resolve, reject) => {
      qemu.once('error', reject)
      qemu.once('close', resolve)
    })
    for (const { server, closed } of ports) {
      server.close()
      await closed()
    }
  } finally {
    clearTimeout(timer)
    for (const { server } of ports) server.close()
    for (const signal of signals) process.removeListener(signal, interrupt)
  }
  const code = /^exit (\d+)$/m.exec(status.text)
  if (code !== null) return { kind: 'exit', code: Number(code[1]) }
  if (interrupted) return { kind: 'interrupted' }
  const shown = `${readText(join(folder, 'qemu'))}${readText(consoleLog).split('\n').slice(-40).join('\n')}`
  if (late) return { kind: 'timeout', reason: `no end within ${task.timeoutMs / 1000} s`, console: shown }
  const reason = /^failed (.*)$/m.exec(status.text)?.[1] ?? 'the guest ended without saying how the command ended'
  return { kind: 'failed', reason, console: shown }
}

/** The files in /run/rig that differ from run to run. */
function told({ command, cwd, env, share }) {
  const lines = [
    ...Object.entries(env).map(([key, value]) => `export ${key}=${quoted(value)}`),
    `cd ${quoted(cwd)} || exit 127`,
    `exec ${command.map(quoted).join(' ')}`,
  ]
  const kept = [...new Set([ROOT, cwd])].filter((path) => path.startsWith('/tmp/'))
  return [
    { path: 'run/rig/command', mode: 0o100755, data: `${lines.join('\n')}\n` },
    { path: 'run/rig/kept', mode: 0o100644, data: kept.map((path) => `${path}\n`).join('') },
    { path: 'run/rig/shares', mode: 0o100644, data: share === undefined ? '' : `out ${share}\n` },
  ]
}

function quoted(text) {
  return `'${text.replaceAll("'", `'\\''`)}'`
}

function arguments_({ kernel }, initrd, consoleLog, ports, { share, forward, cpus }) {
  return [
    ...['-machine', 'pc,usb=off,vmport=off', '-accel', 'tcg,thread=multi,tb-size=512'],
    ...['-cpu', 'max', '-smp', String(cpus), '-m', String(MEMORY_MB)],
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot', '-nic', network(forward)],
    ...['-kernel', kernel, '-initrd', initrd, '-append', KERNEL],
    ...['-serial', `file:${consoleLog}`, '-device', 'virtio-serial-pci'],
    ...ports.flatMap(({ name, path }) => [
      ...['-chardev', `socket,id=${name},path=${path}`],
      ...['-device', `virtserialport,chardev=${name},name=rig.${name}`],
    ]),
    ...['-virtfs', 'local,path=/,mount_tag=root,security_model=none,readonly=on,multidevs=remap'],
    ...(share === undefined ? [] : ['-virtfs', `local,path=${share},mount_tag=out,security_model=${ownership()}`]),
  ]
}

/** Nothing of the host or beyond can be reached from inside. */
function network(forward) {
  if (forward === undefined) return 'none'
  return `user,model=virtio-net-pci,restrict=on,hostfwd=tcp:127.0.0.1:${forward.host}-:${forward.guest}`
}

/** Whoever is not root cannot give files to the guest's root: their owner is then in an attribute. */
function ownership() {
  return process.getuid() === 0 ? 'none' : 'mapped-xattr'
}

/** One end of a port: QEMU connects to it. */
async function port(folder, name, take) {
  const path = join(folder, name)
  let ended = Promise.resolve()
  const server = createServer((socket) => {
    socket.on('data', take)
    socket.on('error', () => {})
    ended = new Promise((resolve) => socket.once('close', resolve))
  })
  await new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(path, resolve)
  })
  return { name, path, server, closed: () => ended }
}

function readText(path) {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}
