/** A card whose data partition is damaged, in QEMU's `virt` machine: repaired where that is possible, else minimal mode from memory. */
import { closeSync, existsSync, mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { Laptop } from '../deploy/laptop/cli/medulla.ts'
import { eventually, SCALE } from '../e2e/eventually.ts'
import { image } from './given.ts'
import { Card, Machine } from './machine.ts'

const folder = mkdtempSync(join(tmpdir(), 'medulla-rescue-'))
let laptop: Laptop
let card: Card
let machine: Machine
let key: string

beforeAll(async () => {
  laptop = new Laptop()
  expect(await laptop.run('keygen')).toMatchObject({ status: 0 })
  key = join(laptop.dir, '.ssh/id_ed25519')
  if (!existsSync(key)) key = join(laptop.dir, 'config/id_ed25519')
  card = new Card(image(), folder)
  const board = join(folder, 'board.json')
  writeFileSync(board, JSON.stringify({ model: 'linux', handles: {} }))
  const written = await laptop.run('image', '--board', board, '--ssh', `${key}.pub`, card.disk)
  expect(written, written.stderr).toMatchObject({ status: 0 })
  machine = new Machine(card, 'virt')
})
afterAll(async () => {
  await machine?.cut()
  rmSync(folder, { recursive: true, force: true })
})

/** Overwrites bytes of the data partition. */
function damage(from: number, length: number): void {
  const { offset } = card.partition(3)
  const fd = openSync(card.disk, 'r+')
  writeSync(fd, Buffer.alloc(length), 0, length, offset + from)
  closeSync(fd)
}

const said = (command: string): string => {
  const ended = machine.ssh(key, command)
  if (ended.status !== 0) throw new Error(`${command}: ${ended.stderr}`)
  return ended.stdout.trim()
}

async function trust(...more: string[]): Promise<void> {
  writeFileSync(join(folder, 'robot.json'), said('sudo cat /var/lib/medulla/robot.json'))
  const address = `127.0.0.1:${machine.port}`
  const known = await laptop.run('trust', 'arm', address, '--card', join(folder, 'robot.json'), ...more)
  expect(known, known.stderr).toMatchObject({ status: 0 })
}

test('a data partition without its superblock is repaired, and the robot is the same one', async () => {
  await machine.start(key)
  await trust()
  await eventually(async () => (await laptop.run('status')).status === 0, 120_000 * SCALE)
  said('sync')
  await machine.cut()
  damage(0, 4096)
  await machine.start(key)
  expect(said('findmnt -no FSTYPE /data')).toBe('ext4')
  await eventually(async () => (await laptop.run('status')).status === 0, 120_000 * SCALE)
})

test('HANDOVER 17.9: a data partition that is lost: minimal mode says what to type, and that works', async () => {
  await machine.cut()
  damage(0, card.partition(3).size)
  await machine.start(key)
  expect(said('findmnt -no FSTYPE /data')).toBe('tmpfs')
  // new keys: the laptop must not take it for the robot that it knows
  const other = await laptop.run('status')
  expect(other.status).not.toBe(0)
  await trust('--replace')
  const status = await eventually(async () => {
    const { stdout } = await laptop.run('status')
    return stdout.includes('MINIMAL MODE') && stdout
  }, 120_000 * SCALE)
  console.log(status)
  const [, command = ''] = /sudo (mkfs\.ext4 .*?) && sudo reboot/.exec(status.replace(/\s+/g, ' ')) ?? []
  said(`sudo umount -l /var/lib/medulla /var/lib/systemd; sudo ${command}`)
  await machine.reboot(key)
  expect(said('findmnt -no FSTYPE /data')).toBe('ext4')
  await trust('--replace')
  await eventually(async () => {
    const { status: code, stdout } = await laptop.run('status')
    return code === 0 && !stdout.includes('MINIMAL MODE')
  }, 120_000 * SCALE)
})
