/**
 * What the start of a program is made of: Node, its confinement, and koffi, which a program has when one of its grants is
 * used by ioctl, and when it puts its own filter on.
 *
 * Each sample is a new process; the variants take turns.
 */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { canConfine, confine } from '../../runtime/body/sandbox/confinement.ts'
import { openDataFolder } from '../../runtime/body/sandbox/datafolder.ts'
import type { BenchOptions } from './main.ts'
import { ENV, ended, start as spawned, temporary } from './rig.ts'
import { Series } from './stats.ts'

const SAMPLES = 40
const CHILD = fileURLToPath(new URL('children/starts.js', import.meta.url))
const TRUE = ['/usr/bin/true']
const UID = 0x7d640001

export async function start({ samples = SAMPLES, wanted, report }: BenchOptions): Promise<Series[]> {
  const plain = [process.execPath, CHILD]
  const variants: [string, string, readonly string[]][] = [
    ['command', 'true', TRUE],
    ['node', 'to the end of an empty program', plain],
    ['node-koffi', 'the same, and koffi', [...plain, 'koffi']],
  ]
  const able = canConfine('namespaces')
  if (able.ok) {
    const confined = confinedCommand()
    // the last two are Node and its file
    variants.push(['command-confined', 'true, in its namespaces', [...confined.slice(0, -2), ...TRUE]])
    variants.push(['node-confined', 'to the end of an empty program', confined])
    variants.push(['node-koffi-confined', 'the same, and koffi', [...confined, 'koffi']])
  } else report.say(`namespaces cannot be had here (${able.why}): its variants are left out`)
  const chosen = variants
    .filter(([variant]) => wanted(variant))
    .map(([variant, note, command]) => ({ command, series: new Series('start', variant, 'ms', { note }) }))
  const koffi = new Series('start', 'koffi-load', 'ms', {
    note: 'of that, the load of koffi: as the program itself sees it',
  })
  for (let i = 0; i < samples; i++) {
    for (const { command, series } of chosen) {
      report.progress(`start: ${i + 1} of ${samples}, ${series.variant}`)
      const [file, ...args] = command
      const began = performance.now()
      const child = spawned(file as string, args, { env: ENV, stdio: ['ignore', 'pipe', 'pipe'] })
      const { status, stdout, stderr } = await ended(child)
      if (status === 0) series.add(performance.now() - began)
      else series.fail(`ended with ${status}: ${stderr.trim()}`)
      if (series.variant === 'node-koffi') koffi.add(Number(stdout))
    }
  }
  const all = [...chosen.map(({ series }) => series), ...(koffi.samples.length > 0 ? [koffi] : [])]
  for (const series of all) report.row(series.row())
  return all
}

/** As a body makes it, with nothing granted. */
function confinedCommand(): readonly string[] {
  const folder = temporary()
  const programDir = join(folder, 'program')
  mkdirSync(programDir)
  const about = { uid: UID, leafProcs: null, folder, programDir, loader: CHILD, grants: [] }
  return confine({
    ...about,
    sandbox: 'namespaces',
    network: false,
    pids: 32,
    dataMb: null,
    tmpMb: 16,
    dataFolder: openDataFolder(folder, 'main', true),
  }).command
}
