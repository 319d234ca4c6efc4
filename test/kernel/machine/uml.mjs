/**
 * Starts user-mode Linux: the guest's kernel is a program of this host, and its processes run natively. bwrap shows it the host's
 * root read-only, without devices, network and most capabilities, so that not even root in the guest can write where the
 * task does not say.
 */
import { spawn } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import { createServer } from 'node:net'
import { BuildError } from '../../../pi-image/tools/error.mjs'
import { umlEvidence } from './evidence.mjs'
import { relay } from './forward.mjs'

const MEMORY_MB = 2048

/** Capabilities with which root can read and give files, and the kernel can raise its stack limit. */
const CAPABILITIES = ['CAP_CHOWN', 'CAP_DAC_OVERRIDE', 'CAP_FOWNER', 'CAP_SYS_RESOURCE']

export const uml = {
  name: 'user-mode Linux',

  async start({ kernel, initrd, folder, consoleLog, task: { share, cpus, forward } }, take) {
    const log = openSync(consoleLog, 'a')
    const sandbox = [
      ...['--die-with-parent', '--unshare-pid', '--unshare-net', '--unshare-ipc'],
      ...['--cap-drop', 'ALL', ...CAPABILITIES.flatMap((capability) => ['--cap-add', capability])],
      // the kernel keeps the guest's memory in /dev/shm
      ...['--ro-bind', '/', '/', '--dev', '/dev', '--tmpfs', '/dev/shm', '--proc', '/proc', '--bind', folder, folder],
      ...(share === undefined ? [] : ['--bind', share, share]),
    ]
    const options = [
      ...[`mem=${MEMORY_MB}M`, `initrd=${initrd}`, `uml_dir=${folder}`, 'seccomp=on', `ncpus=${cpus}`],
      ...['quiet', 'loglevel=4', 'panic=-1', 'RIG_MACHINE=uml', 'con=null', 'con0=null,fd:2'],
      // ttyS0 to ttyS3 are the descriptors 3 to 6; the guest reads from the last two
      ...['ssl=null', ...[0, 1].map((n) => `ssl${n}=null,fd:${n + 3}`), 'ssl2=fd:5', 'ssl3=fd:6'],
    ]
    const stdio = ['ignore', log, log, 'pipe', 'pipe', 'pipe', 'pipe']
    const server = forward === undefined ? undefined : createServer({ allowHalfOpen: true })
    // listen before anything is started, because the port may be in use
    if (server !== undefined) await listen(server, forward.host)
    const env = { PATH: process.env.PATH }
    const child = spawn('bwrap', [...sandbox, '--', kernel, ...options], { stdio, env, detached: true })
    closeSync(log)
    const [, , , stdout, stderr, status, line] = child.stdio
    stdout.on('data', take.stdout)
    stderr.on('data', take.stderr)
    status.on('data', take.status)
    server?.on('connection', relay(line))
    const ended = new Promise((resolve, reject) => {
      child.once('error', (cause) => {
        reject(new BuildError(`bwrap cannot be started: ${cause.message}`, 'apt-get install bubblewrap'))
      })
      child.once('close', resolve)
    }).finally(() => server?.close())
    return {
      ended,
      kill: () => killGroup(child.pid),
      evidence: () => umlEvidence(consoleLog, child.pid, (key) => status.write(`${key}\n`)),
    }
  },
}

/** Kills bwrap and the kernel, also before bwrap has set the kernel to die with it. */
function killGroup(pid) {
  try {
    process.kill(-pid, 'SIGKILL')
  } catch (error) {
    if (error.code !== 'ESRCH') throw error
  }
}

function listen(server, port) {
  return new Promise((resolve, reject) => {
    server.once('error', ({ message }) => reject(new BuildError(`--forward: ${message}`, 'choose another port')))
    server.listen(port, '127.0.0.1', resolve)
  })
}
