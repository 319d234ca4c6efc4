// Reads another input of the converter that arm.ts reads.
import { robot } from 'medulla'

robot({ light: 'analog' }, ({ light, every }) => {
  every(100, () => light.read())
})
