/**
 * User-mode Linux: the guest's kernel is a program of this host and its processes run natively. bwrap shows it the host's
 * root read-only, without a network, so that not even root in the guest can write where the task does not say.
 */
import { spawn } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import { createServer } from 'node:net'
import { relay } from './forward.mjs'

const MEMORY_MB = 2048

export const uml = {
  name: 'user-mode Linux',

  async start({ kernel, initrd, folder, consoleLog, task: { share, cpus, forward } }, take) {
    const log = openSync(consoleLog, 'a')
    const sandbox = [
      ...['--die-with-parent', '--unshare-pid', '--unshare-net', '--unshare-ipc'],
      ...['--ro-bind', '/', '/', '--dev-bind', '/dev', '/dev', '--proc', '/proc', '--bind', folder, folder],
      ...(share === undefined ? [] : ['--bind', share, share]),
    ]
    const options = [
      ...[`mem=${MEMORY_MB}M`, `initrd=${initrd}`, `uml_dir=${folder}`, 'seccomp=on', `ncpus=${cpus}`],
      ...['quiet', 'loglevel=4', 'panic=-1', 'RIG_MACHINE=uml', 'con=null', 'con0=null,fd:2'],
      // ttyS0 to ttyS3 are the descriptors 3 to 6
      ...['ssl=null', ...[0, 1, 2].map((n) => `ssl${n}=null,fd:${n + 3}`), 'ssl3=fd:6'],
    ]
    const stdio = ['ignore', log, log, 'pipe', 'pipe', 'pipe', 'pipe']
    const child = spawn('bwrap', [...sandbox, '--', kernel, ...options], { stdio, env: { PATH: process.env.PATH } })
    closeSync(log)
    const [, , , stdout, stderr, status, line] = child.stdio
    stdout.on('data', take.stdout)
    stderr.on('data', take.stderr)
    status.on('data', take.status)
    const server = forward === undefined ? undefined : await listen(forward.host, relay(line))
    const ended = new Promise((resolve, reject) => {
      child.once('error', reject)
      child.once('close', resolve)
    }).finally(() => server?.close())
    return { ended, kill: () => child.kill('SIGKILL'), evidence: async () => 'user-mode Linux keeps none' }
  },
}

/** Each connection to the port of this host goes over the serial line. */
async function listen(port, connection) {
  const server = createServer(connection)
  await new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, '127.0.0.1', resolve)
  })
  return server
}
