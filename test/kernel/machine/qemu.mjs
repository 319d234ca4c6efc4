/** Starts QEMU, which translates every instruction, with Debian's own kernel, the one that users run. */
import { spawn } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { MONITOR, qemuEvidence } from './evidence.mjs'

const MEMORY_MB = 3072
const KERNEL = [
  'console=ttyS0 quiet loglevel=4 panic=-1 oops=panic',
  // no test needs these devices, and each costs time because every instruction is translated
  'mitigations=off nokaslr audit=0 apparmor=0 selinux=0 tsc=reliable random.trust_cpu=on raid=noautodetect',
  // evidence.mjs queries the kernel through its console
  'cgroup_no_v1=all sysrq_always_enabled=1 RIG_MACHINE=qemu',
].join(' ')

export const qemu = {
  name: 'QEMU',

  async start({ kernel, initrd, folder, consoleLog, task }, take) {
    const ports = await Promise.all(
      ['stdout', 'stderr', 'status'].map((name) => port(folder, name, (bytes) => take[name](bytes))),
    )
    const log = openSync(consoleLog, 'a')
    // QEMU ends with this process, also after SIGKILL
    const command = [
      '--pdeathsig',
      'KILL',
      'qemu-system-x86_64',
      ...options(kernel, initrd, folder, consoleLog, ports, task),
    ]
    const child = spawn('setpriv', command, { stdio: ['ignore', 'ignore', log] })
    closeSync(log)
    const closed = new Promise((resolve, reject) => {
      child.once('error', reject)
      child.once('close', resolve)
    })
    const ended = closed
      .then(() => Promise.all(ports.map((each) => each.closed())))
      .finally(() => {
        for (const { server } of ports) server.close()
      })
    return { ended, kill: () => child.kill('SIGKILL'), evidence: () => qemuEvidence(folder, consoleLog, child.pid) }
  },
}

function options(kernel, initrd, folder, consoleLog, ports, { share, forward, cpus }) {
  const socket = (name) => `socket,id=${name},path=${join(folder, name)},server=on,wait=off`
  return [
    ...['-machine', 'pc,usb=off,vmport=off', '-accel', 'tcg,thread=multi,tb-size=512'],
    ...['-cpu', 'max', '-smp', String(cpus), '-m', String(MEMORY_MB)],
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot', '-nic', network(forward)],
    ...['-kernel', kernel, '-initrd', initrd, '-append', KERNEL],
    ...[
      '-chardev',
      `${socket(MONITOR.console)},logfile=${consoleLog},logappend=on`,
      '-serial',
      `chardev:${MONITOR.console}`,
    ],
    ...['-chardev', socket(MONITOR.monitor), '-mon', `chardev=${MONITOR.monitor},mode=readline`],
    ...['-device', 'virtio-serial-pci'],
    ...ports.flatMap(({ name, path }) => [
      ...['-chardev', `socket,id=${name},path=${path}`],
      ...['-device', `virtserialport,chardev=${name},name=rig.${name}`],
    ]),
    ...['-virtfs', 'local,path=/,mount_tag=root,security_model=none,readonly=on,multidevs=remap'],
    ...(share === undefined ? [] : ['-virtfs', `local,path=${share},mount_tag=out,security_model=${ownership()}`]),
  ]
}

/** No network: the guest can reach neither the host nor anything beyond. */
function network(forward) {
  if (forward === undefined) return 'none'
  return `user,model=virtio-net-pci,restrict=on,hostfwd=tcp:127.0.0.1:${forward.host}-:${forward.guest}`
}

/** Without root, files cannot be given to the guest's root: the owner is then stored in an attribute. */
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
