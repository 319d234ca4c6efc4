/**
 * Boots a card in QEMU with the kernel and the initial RAM disk that are on the card: `virt`, which has no hardware of a Pi, or
 * `raspi3b`, which has a Pi 3's GPIO and I2C controllers, and takes the card's device tree.
 */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { DEFAULT_PORT } from '../../deploy/shared/api.ts'
import { timeScale } from '../../deploy/shared/timescale.ts'
import { qemu } from './qemu.ts'

/** Where pi-image/tools/disk.mjs puts the FAT partition. */
const BOOT_OFFSET = '4M'
/** A start takes half a minute on an idle computer. */
const BOOT_MS = 300_000 * timeScale()
/** udev finds the card's partitions late on a busy computer, where a robot waits 90 s for them; the runtime's deadlines get a factor, too. */
const patience = (scale: number) =>
  [
    `systemd.default_device_timeout_sec=${Math.ceil(BOOT_MS / 1000)}`,
    `systemd.default_timeout_start_sec=${Math.ceil(BOOT_MS / 1000)}`,
    `systemd.setenv=MEDULLA_TIME_SCALE=${scale}`,
  ].join(' ')

const output = (file: string, ...args: string[]) => execFileSync(file, args, { encoding: 'utf8', maxBuffer: 64 << 20 })

export interface Ended {
  status: number | null
  stdout: string
  stderr: string
}

/** A card: a file with the image on it, and the files of its FAT partition. */
export class Card {
  readonly folder: string
  readonly disk: string

  constructor(image: string, folder: string) {
    this.folder = folder
    this.disk = join(folder, 'card.img')
    mkdirSync(folder, { recursive: true })
    output('zstd', '-d', '--long=27', '--quiet', '--force', image, '-o', this.disk)
    // the card is larger than the image; QEMU wants a power of two
    output('truncate', '--size=2G', this.disk)
  }

  list(): string[] {
    return output('mdir', '-b', '-i', `${this.disk}@@${BOOT_OFFSET}`, '::')
      .trim()
      .split('\n')
      .map((path) => path.slice(3))
  }

  write(name: string, text: string): void {
    const file = join(this.folder, name)
    writeFileSync(file, text)
    output('mcopy', '-o', '-i', `${this.disk}@@${BOOT_OFFSET}`, file, `::${name}`)
  }

  read(name: string): string {
    return output('mtype', '-i', `${this.disk}@@${BOOT_OFFSET}`, `::${name}`)
  }

  /** Bytes of a partition, from 1. */
  partition(number: number): { offset: number; size: number } {
    const table = JSON.parse(output('sfdisk', '--json', this.disk)) as {
      partitiontable: { partitions: { start: number; size: number }[] }
    }
    const { start = 0, size = 0 } = table.partitiontable.partitions[number - 1] ?? {}
    return { offset: start * 512, size: size * 512 }
  }

  /** Copies a file of the FAT partition to the host. */
  extract(name: string): string {
    const file = join(this.folder, name)
    output('mcopy', '-n', '-o', '-i', `${this.disk}@@${BOOT_OFFSET}`, `::${name}`, file)
    return file
  }
}

/** What differs between the machines. */
const MACHINES = {
  virt: {
    console: 'ttyAMA0',
    quirks: '',
    args: (card: Card, forward: string, log: string) => [
      ...['-M', 'virt', '-cpu', 'cortex-a53', '-smp', '2', '-m', '1024'],
      ...['-drive', `if=none,id=card,format=raw,file=${card.disk}`, '-device', 'virtio-blk-device,drive=card'],
      ...['-netdev', forward, '-device', 'virtio-net-device,netdev=net', '-device', 'virtio-rng-device'],
      ...['-serial', `file:${log}`],
    ],
  },
  raspi3b: {
    console: 'ttyS1,115200',
    // QEMU restarts when the chip's watchdog is armed, and lacks the graphics and the Bluetooth of a Pi
    quirks: 'systemd.watchdog_sec=0 modprobe.blacklist=vc4,vchiq,bcm2835_v4l2,hci_uart',
    args: (card: Card, forward: string, log: string) => [
      ...['-M', 'raspi3b', '-dtb', card.extract('bcm2837-rpi-3-b.dtb')],
      ...['-drive', `if=sd,format=raw,file=${card.disk}`],
      ...['-netdev', forward, '-device', 'usb-net,netdev=net'],
      ...['-serial', 'null', '-serial', `file:${log}`],
      ...['-device', 'tmp105,bus=i2c-bus.1,address=0x48,id=thermometer'],
    ],
  },
}

export class Machine {
  readonly card: Card
  readonly kind: keyof typeof MACHINES
  readonly #scale: number
  /** Port of the host that leads to the robot. */
  port = 0
  #sshPort = 0
  #qemu: ChildProcess | undefined

  /** `scale`: the factor of the runtime's deadlines, and of its trials. */
  constructor(card: Card, kind: keyof typeof MACHINES, scale = 10 * timeScale()) {
    this.card = card
    this.kind = kind
    this.#scale = scale
  }

  /** Power on. Resolves when ssh answers; rejects with the console when that takes too long. @returns milliseconds */
  async start(key: string): Promise<number> {
    const [kernel, initrd] = ['vmlinuz', 'initrd.img'].map((start) => {
      const name = this.card.list().find((file) => file.startsWith(start))
      if (name === undefined) throw new Error(`no ${start} on the card`)
      return this.card.extract(name)
    })
    // the same ones after the power was cut
    this.port ||= await freePort()
    this.#sshPort ||= await freePort()
    const { console: line, quirks, args } = MACHINES[this.kind]
    const written = this.card
      .read('cmdline.txt')
      .trim()
      .replace(/console=\S+ /g, '')
      .replace(' quiet', '')
    const forward = `user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:${this.port}-:${DEFAULT_PORT},hostfwd=tcp:127.0.0.1:${this.#sshPort}-:22`
    const command = qemu()
    const began = performance.now()
    this.#qemu = spawn(
      command.file,
      [
        ...command.args,
        ...args(this.card, forward, this.#console),
        ...[
          '-kernel',
          kernel ?? '',
          '-initrd',
          initrd ?? '',
          '-append',
          `console=${line} ${written} ${patience(this.#scale)} ${quirks}`.trim(),
        ],
        ...['-nodefaults', '-display', 'none'],
        ...['-qtest', `unix:${this.#socket('qtest')},server=on,wait=off`, '-qtest-log', '/dev/null'],
        ...['-qmp', `unix:${this.#socket('qmp')},server=on,wait=off`],
      ],
      { stdio: ['ignore', 'inherit', 'inherit'], env: command.env },
    )
    await this.#answers(key, began)
    return performance.now() - began
  }

  #socket(name: string): string {
    return join(this.card.folder, name)
  }

  get #console(): string {
    return join(this.card.folder, 'console.log')
  }

  console(): string {
    return readFileSync(this.#console, 'latin1')
  }

  async #answers(key: string, began: number): Promise<void> {
    while (performance.now() - began < BOOT_MS) {
      if (this.#qemu?.exitCode !== null) break
      if (this.ssh(key, 'true').status === 0) return
      await sleep(1000)
    }
    throw new Error(`no answer:\n${this.console().split('\n').slice(-60).join('\n')}`)
  }

  /** A command of the user pi. */
  ssh(key: string, command: string): Ended {
    return spawnSync(
      'ssh',
      [
        ...[
          '-i',
          key,
          '-p',
          String(this.#sshPort),
          '-F',
          '/dev/null',
          '-o',
          'BatchMode=yes',
          '-o',
          'ConnectTimeout=20',
        ],
        ...['-o', 'StrictHostKeyChecking=no', '-o', 'UserKnownHostsFile=/dev/null', '-o', 'LogLevel=ERROR'],
        ...['pi@127.0.0.1', command],
      ],
      { encoding: 'utf8', maxBuffer: 64 << 20 },
    )
  }

  /** One command of QEMU's qtest protocol, which reads and writes the registers of the machine from outside: `readl ADDRESS`. */
  register(address: number): Promise<number> {
    return asked(this.#socket('qtest'), `readl ${address}\n`, (answer) => Number(/^OK (0x\w+)/m.exec(answer)?.[1]))
  }

  /** Sets a property of one of QEMU's devices. */
  async set(device: string, property: string, value: number): Promise<void> {
    const order = { execute: 'qom-set', arguments: { path: `/machine/peripheral/${device}`, property, value } }
    const text = `{"execute":"qmp_capabilities"}\n${JSON.stringify(order)}\n`
    // the greeting, then an answer to each of the two
    const answer = await asked(this.#socket('qmp'), text, (lines) =>
      lines.match(/"return"/g)?.length === 2 ? lines : Number.NaN,
    )
    if (typeof answer !== 'string') throw new Error('no answer')
  }

  /** Restarts the guest's system. Resolves when ssh answers again. */
  async reboot(key: string): Promise<number> {
    const before = this.ssh(key, 'cat /proc/sys/kernel/random/boot_id').stdout
    const began = performance.now()
    this.ssh(key, 'sudo systemctl reboot')
    for (;;) {
      await this.#answers(key, began)
      const now = this.ssh(key, 'cat /proc/sys/kernel/random/boot_id')
      if (now.status === 0 && now.stdout !== before) return performance.now() - began
      await sleep(1000)
    }
  }

  /** The power is cut: nothing of the guest is written any more. */
  async cut(): Promise<void> {
    const qemu = this.#qemu
    if (qemu === undefined || qemu.exitCode !== null) return
    const ended = new Promise((resolve) => qemu.once('exit', resolve))
    qemu.kill('SIGKILL')
    await ended
  }
}

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  await new Promise((resolve) => server.close(resolve))
  if (address === null || typeof address === 'string') throw new Error('no port')
  return address.port
}

/** Sends a text to a socket. Resolves with what `read` makes of the answer, as soon as that is not NaN. */
function asked<T>(path: string, text: string, read: (answer: string) => T): Promise<T> {
  return new Promise((resolve, reject) => {
    let answer = ''
    const socket = connect(path, () => socket.write(text))
    socket.once('error', reject)
    socket.setEncoding('utf8').on('data', (more: string) => {
      answer += more
      const value = read(answer)
      if (Number.isNaN(value)) return
      socket.destroy()
      resolve(value)
    })
  })
}
