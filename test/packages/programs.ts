/** One use of each package: what a program imports, and an expression (it may wait) with what comes of it. */
export interface Use {
  imports: string
  /** statements whose last one is `return` and a text */
  body: string
  expected: string | RegExp
}

const use = (imports: string, body: string, expected: string | RegExp): Use => ({ imports, body, expected })

export const USES: Record<string, Use> = {
  '@msgpack/msgpack': use(
    `import { decode, encode } from '@msgpack/msgpack'`,
    `return JSON.stringify(decode(encode({ a: [1, 'x'] })))`,
    '{"a":[1,"x"]}',
  ),
  ahrs: use(
    `import AHRS from 'ahrs'`,
    `const it = new AHRS({ sampleInterval: 20, algorithm: 'Madgwick' }); it.update(0, 0, 0, 0, 0, 1, 1, 0, 0); return typeof it.getEulerAngles().pitch`,
    'number',
  ),
  ajv: use(`import Ajv from 'ajv'`, `return String(new Ajv().compile({ type: 'integer' })(3))`, 'true'),
  async: use(
    `import async from 'async'`,
    `return JSON.stringify(await async.map([1, 2], async (n) => n * 2))`,
    '[2,4]',
  ),
  axios: use(
    `import axios from 'axios'`,
    `return axios.getUri({ url: 'http://a/b', params: { c: 1 } })`,
    'http://a/b?c=1',
  ),
  bluebird: use(`import Bluebird from 'bluebird'`, `return String(Bluebird.resolve(4).isFulfilled())`, 'true'),
  'csv-parse': use(
    `import { parse } from 'csv-parse/sync'`,
    `return JSON.stringify(parse('a,b\\n1,2', { columns: true }))`,
    '[{"a":"1","b":"2"}]',
  ),
  'date-fns': use(
    `import { addDays, formatISO } from 'date-fns'`,
    `return formatISO(addDays(new Date(2026, 0, 31), 1), { representation: 'date' })`,
    '2026-02-01',
  ),
  dayjs: use(
    `import dayjs from 'dayjs'`,
    `return dayjs('2026-03-29').add(1, 'day').format('YYYY-MM-DD')`,
    '2026-03-30',
  ),
  debug: use(
    `import debug from 'debug'`,
    `const it = debug('robot'); it('hello'); return String(Boolean(it.enabled))`,
    'false',
  ),
  dotenv: use(`import { parse } from 'dotenv'`, `return parse('NAME=rosie').NAME`, 'rosie'),
  ejs: use(`import ejs from 'ejs'`, `return ejs.render('<%= n + 1 %>', { n: 1 })`, '2'),
  eventemitter3: use(
    `import { EventEmitter } from 'eventemitter3'`,
    `let got = ''; const it = new EventEmitter(); it.on('x', (v) => { got = v }); it.emit('x', 'yes'); return got`,
    'yes',
  ),
  express: use(
    `import express from 'express'`,
    `const app = express(); app.set('view engine', 'html'); app.get('/', (_, res) => res.send('x')); return typeof app.listen + app.get('views').slice(-5)`,
    'functionviews',
  ),
  'fast-xml-parser': use(
    `import { XMLParser } from 'fast-xml-parser'`,
    `return JSON.stringify(new XMLParser().parse('<a><b>1</b></a>'))`,
    '{"a":{"b":1}}',
  ),
  got: use(`import got from 'got'`, `return typeof got.extend({ timeout: { request: 1 } }).get`, 'function'),
  gps: use(
    `import GPS from 'gps'`,
    `const gps = new GPS(); let fix; gps.on('data', (d) => { fix = d }); gps.update('$GPGGA,224900.000,4832.3762,N,00903.5393,E,1,04,7.8,498.6,M,48.0,M,,0000*5E'); return fix.type + fix.lat.toFixed(2)`,
    'GGA48.54',
  ),
  handlebars: use(
    `import handlebars from 'handlebars'`,
    `return handlebars.compile('Hi {{name}}')({ name: 'rosie' })`,
    'Hi rosie',
  ),
  hono: use(
    `import { Hono } from 'hono'`,
    `const app = new Hono().get('/', (c) => c.text('hi')); return (await (await app.request('/')).text())`,
    'hi',
  ),
  immer: use(
    `import { produce } from 'immer'`,
    `return JSON.stringify(produce({ n: 1 }, (d) => { d.n = 2 }))`,
    '{"n":2}',
  ),
  'johnny-five': use(
    `import five from 'johnny-five'`,
    `return typeof five.Board + five.Fn.map(5, 0, 10, 0, 100)`,
    'function50',
  ),
  kalmanjs: use(
    `import KalmanFilter from 'kalmanjs'`,
    `const it = new KalmanFilter({ R: 0.01, Q: 3 }); it.filter(2); return String(Math.round(it.filter(2)))`,
    '2',
  ),
  koa: use(
    `import Koa from 'koa'`,
    `return typeof new Koa().use(async (ctx) => { ctx.body = 'x' }).callback()`,
    'function',
  ),
  lodash: use(`import _ from 'lodash'`, `return _.chunk([1, 2, 3], 2).join('|')`, '1,2|3'),
  lowdb: use(
    `import { Low, Memory } from 'lowdb'`,
    `const db = new Low(new Memory(), { n: 1 }); await db.read(); return String(db.data.n)`,
    '1',
  ),
  luxon: use(
    `import { DateTime } from 'luxon'`,
    `return String(DateTime.fromISO('2026-03-29T12:00', { zone: 'Europe/Berlin' }).offset)`,
    '120',
  ),
  mathjs: use(`import { evaluate } from 'mathjs'`, `return String(evaluate('sqrt(3^2 + 4^2)'))`, '5'),
  'ml-matrix': use(
    `import { inverse, Matrix } from 'ml-matrix'`,
    `return String(inverse(new Matrix([[2, 0], [0, 4]])).get(1, 1))`,
    '0.25',
  ),
  mqtt: use(`import mqtt from 'mqtt'`, `return typeof mqtt.connect`, 'function'),
  aedes: use(`import { Aedes } from 'aedes'`, `return typeof Aedes`, 'function'),
  nanoid: use(`import { nanoid } from 'nanoid'`, `return String(nanoid().length)`, '21'),
  'node-cron': use(`import cron from 'node-cron'`, `return String(cron.validate('*/5 * * * *'))`, 'true'),
  'node-fetch': use(`import { Headers } from 'node-fetch'`, `return new Headers({ a: 'b' }).get('a')`, 'b'),
  'node-pid-controller': use(
    `import Controller from 'node-pid-controller'`,
    `const it = new Controller({ k_p: 1, k_i: 0, k_d: 0, dt: 1 }); it.setTarget(3); return String(it.update(1))`,
    '2',
  ),
  'p-queue': use(
    `import PQueue from 'p-queue'`,
    `return String(await new PQueue({ concurrency: 1 }).add(async () => 7))`,
    '7',
  ),
  pino: use(
    `import pino from 'pino'`,
    `const it = pino({ level: 'silent' }); it.info('hello'); return it.level`,
    'silent',
  ),
  pngjs: use(
    `import { PNG } from 'pngjs'`,
    `const png = new PNG({ width: 2, height: 1 }); return String(PNG.sync.read(PNG.sync.write(png)).width)`,
    '2',
  ),
  protobufjs: use(
    `import protobuf from 'protobufjs'`,
    `const { root } = protobuf.parse('syntax = "proto3"; message M { int32 n = 1; }'); const M = root.lookupType('M'); return String(M.decode(M.encode({ n: 5 }).finish()).n)`,
    '5',
  ),
  rxjs: use(
    `import { lastValueFrom, map, of } from 'rxjs'`,
    `return String(await lastValueFrom(of(1, 2).pipe(map((n) => n * 10))))`,
    '20',
  ),
  'socket.io': use(`import { Server } from 'socket.io'`, `return typeof new Server().on`, 'function'),
  uuid: use(`import { v4, validate } from 'uuid'`, `return String(validate(v4()))`, 'true'),
  winston: use(
    `import winston from 'winston'`,
    `const it = winston.createLogger({ silent: true, transports: [new winston.transports.Console()] }); it.info('hello'); return it.level`,
    'info',
  ),
  ws: use(
    `import { WebSocketServer } from 'ws'`,
    `return typeof new WebSocketServer({ noServer: true }).handleUpgrade`,
    'function',
  ),
  xstate: use(
    `import { createActor, createMachine } from 'xstate'`,
    `const it = createActor(createMachine({ initial: 'off', states: { off: { on: { GO: 'on' } }, on: {} } })).start(); it.send({ type: 'GO' }); return it.getSnapshot().value`,
    'on',
  ),
  yaml: use(`import { parse } from 'yaml'`, `return JSON.stringify(parse('a: [1, 2]'))`, '{"a":[1,2]}'),
  zod: use(
    `import { z } from 'zod'`,
    `return String(z.object({ n: z.number() }).safeParse({ n: 'x' }).success)`,
    'false',
  ),
  // drivers, which use the bus that they are given or open it
  ads1115: use(`import ADS1115 from 'ads1115'`, `return typeof ADS1115`, 'function'),
  ads1x15: use(`import Ads1x15 from 'ads1x15'`, `return typeof Ads1x15`, 'function'),
  bme280: use(`import bme280 from 'bme280'`, `return typeof bme280.open`, 'function'),
  'mcp-spi-adc': use(`import mcp from 'mcp-spi-adc'`, `return typeof mcp.open`, 'function'),
  'oled-i2c-bus': use(`import Oled from 'oled-i2c-bus'`, `return typeof Oled`, 'function'),
  'oled-font-5x7': use(`import font from 'oled-font-5x7'`, `return String(font.width)`, '5'),
  pca9685: use(`import { Pca9685Driver } from 'pca9685'`, `return typeof Pca9685Driver`, 'function'),
  '@serialport/parser-readline': use(
    `import { ReadlineParser } from '@serialport/parser-readline'`,
    `const it = new ReadlineParser(); const line = new Promise((done) => it.once('data', done)); it.write('hello\\nworld'); return await line`,
    'hello',
  ),
}
