import { writeFile } from 'node:fs/promises'
import type { Command } from 'commander'
import { LIMITS } from '../../../shared/bundle/limits.ts'
import { Refusal } from '../../../shared/errors.ts'
import { readRobots } from '../../config.ts'
import { type App, example, type Globals, type Runner } from '../app.ts'
import { shellWord } from '../clean.ts'
import { buildBundle, isBundle } from '../program.ts'
import { findRobot } from '../robot.ts'
import { readerOf } from '../subject.ts'

interface Options {
  output?: string
  slot?: string
  expires?: string
  above?: string
}

export function define(command: Command, app: App, run: Runner): void {
  command
    .description(
      'Bundles a program into one file, signs it, and seals it: only the robots that it is sealed to can open it, and\n' +
        'medulla inspect on this laptop. These are all robots that this laptop knows, or those of -d (a,b,c).',
    )
    .argument('[path]', 'folder or source file', '.')
    .option('-o, --output <file>', 'the bundle file (default: PROGRAM-VERSION.medulla)')
    .option('--slot <slot>', 'robots install the bundle in this slot only')
    .option('--expires <time>', 'robots do not install the bundle after this time (ISO 8601)')
    .option(
      '--above <counter>',
      'give the bundle a higher counter than this, where the clock of this computer is behind',
    )
    .addHelpText('after', example('medulla build robots/blink/v1 -o blink.medulla', 'medulla push blink.medulla'))
    .action((path: string, _: unknown, own: Command) => {
      const options = own.opts<Options>()
      return run(() => build(app, path, options, own.optsWithGlobals<Globals>()))
    })
}

async function build(app: App, path: string, options: Options, globals: Globals): Promise<number> {
  const names = globals.device?.split(',') ?? Object.keys(readRobots(app.dir).robots)
  if (names.length === 0) {
    throw new Refusal(
      'unknown-robot',
      'this laptop knows no robot to seal the bundle to',
      'medulla sim, or for a real robot: medulla pair HOST',
    )
  }
  if (await isBundle(path)) throw new Refusal('usage', `${path} is a bundle already`, `medulla push ${shellWord(path)}`)
  const robots = await Promise.all(names.map((name) => findRobot(app.dir, name)))
  const expires = options.expires === undefined ? undefined : new Date(options.expires)
  if (expires !== undefined && Number.isNaN(expires.getTime())) {
    throw new Refusal('usage', `expected a time like 2030-01-31, got ${options.expires}`)
  }
  const above = options.above === undefined ? undefined : Number(options.above)
  if (above !== undefined && !(Number.isSafeInteger(above) && above >= 0)) {
    throw new Refusal(
      'usage',
      `--above: expected a counter, as the robot's refusal names it, got ${JSON.stringify(options.above)}`,
    )
  }
  const { bytes, built } = await buildBundle(app, path, robots, {
    key: globals.key,
    slot: options.slot,
    expires: expires?.toISOString(),
    above,
    // an age file has at most this many recipients
    readers: robots.length < LIMITS.ageStanzas ? [await readerOf(app.dir)] : [],
  })
  const file = options.output ?? `${built.program}-${built.version}.medulla`
  await writeFile(file, bytes)
  const { program, version, digest, h1 } = built
  app.term.event({ event: 'built', digest, h1, bytes: bytes.length, program, version, file })
  app.term.line(`${file}: ${program} ${version}, ${bytes.length} bytes, for ${names.join(', ')}`)
  app.term.line(digest)
  app.term.line(h1)
  app.term.next(`medulla push ${shellWord(file)}`, `medulla inspect ${shellWord(file)}`)
  return 0
}
