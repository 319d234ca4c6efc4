/** Packages with compiled code, which no bundle can contain, and the advice to use instead. */

/** Name of a package to the text after "NAME is native: ". */
const ADVICE = {
  onoff: 'ask for an `output` handle instead, or an `input` handle for a button',
  rpio: 'ask for an `output`, `input`, `pwm`, `i2c` or `spi` handle instead',
  pigpio: 'ask for an `output`, `input`, `pwm` or `servo` handle instead',
  'pigpio-client': 'ask for an `output`, `input`, `pwm` or `servo` handle instead',
  'rpi-gpio': 'ask for an `output` or `input` handle instead',
  'pi-gpio': 'ask for an `output` or `input` handle instead',
  'array-gpio': 'ask for an `output`, `input`, `pwm`, `i2c` or `spi` handle instead',
  'wiring-pi': 'ask for an `output`, `input`, `pwm`, `i2c` or `spi` handle instead',
  'node-libgpiod': 'ask for an `output` or `input` handle instead',
  opengpio: 'ask for an `output`, `input` or `pwm` handle instead',
  epoll: 'ask for an `input` handle instead, and use its onEdge',
  'i2c-bus': 'ask for an `i2c` handle instead; i2cBus(handle) of medulla/drivers has the interface of i2c-bus',
  i2c: 'ask for an `i2c` handle instead',
  'spi-device': 'ask for an `spi` handle instead',
  'pi-spi': 'ask for an `spi` handle instead',
  spi: 'ask for an `spi` handle instead',
  serialport: 'ask for a `serial` handle instead',
  '@serialport/bindings-cpp': 'ask for a `serial` handle instead',
  '@serialport/bindings': 'ask for a `serial` handle instead',
  'rpi-ws281x': 'ask for an `spi` handle instead, with the data line of the LEDs on MOSI',
  'rpi-ws281x-native': 'ask for an `spi` handle instead, with the data line of the LEDs on MOSI',
  ws281x: 'ask for an `spi` handle instead, with the data line of the LEDs on MOSI',
  'node-dht-sensor': 'use a chip on an `i2c` handle instead (Environment of medulla/drivers reads a BME280)',
  sharp: 'prepare images before the build, or use a package in JavaScript (jimp)',
  canvas: 'prepare images before the build, or use a package in JavaScript (jimp)',
  'better-sqlite3': 'keep data in `state`, or in files of `info.dataDir`',
  sqlite3: 'keep data in `state`, or in files of `info.dataDir`',
  bcrypt: 'use a package in JavaScript (bcryptjs), or scrypt of node:crypto',
  argon2: 'use scrypt of node:crypto',
  koffi: 'a program calls no C libraries: ask for the hardware as a handle',
  'ffi-napi': 'a program calls no C libraries: ask for the hardware as a handle',
  usb: 'a program opens no USB devices: ask for a `serial` handle where the device is a serial line',
  'node-hid': 'a program opens no USB devices: read them in a process of its own beside the runtime',
} as const satisfies Record<string, string>

const OTHERWISE = 'no bundle can carry compiled code: ask for the hardware as a handle, or use a package in JavaScript'

/** Packages that load a compiled addon: a package that imports one of these is native. */
const ADDON_LOADERS = [
  'bindings',
  'node-gyp-build',
  'node-gyp-build-optional-packages',
  '@mapbox/node-pre-gyp',
  'node-pre-gyp',
  'pkg-prebuilds',
]

/** Native packages with a replacement for dependencies that import them: it uses the handles that the program was granted. */
export const SHIMS = ['i2c-bus', 'serialport', 'spi-device'] as const
export type Shim = (typeof SHIMS)[number]

export const isShim = (name: string): name is Shim => SHIMS.some((known) => known === name)

export function nativeText(name: string): string {
  const advice = Object.hasOwn(ADVICE, name) ? ADVICE[name as keyof typeof ADVICE] : OTHERWISE
  return `${name} is native: ${advice}`
}

const escaped = (name: string): string => name.replace(/[/.-]/g, '\\$&')
const alternatives = (names: readonly string[]): string => names.map(escaped).join('|')

/** Import specifiers that may load compiled code. */
export const NATIVE_IMPORT = new RegExp(
  `^(?:${alternatives([...Object.keys(ADVICE), ...ADDON_LOADERS])})(?:/|$)|\\.node$`,
)

/** The package of an import specifier: `@scope/name` or `name`. Null for a path. */
export function packageIn(specifier: string): string | null {
  return /^(?:@[^/]+\/)?[^@./][^/]*/.exec(specifier)?.[0] ?? null
}

export const isAddonLoader = (name: string): boolean => ADDON_LOADERS.includes(name)
