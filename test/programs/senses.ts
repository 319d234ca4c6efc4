// Reads an ADC on SPI and a temperature, which are both asked for over the broker.
import { robot } from 'medulla'
import { Mcp3008 } from 'medulla/drivers'

robot({ adc: 'spi', water: 'temperature' }, ({ adc, water, every, log }) => {
  const inputs = new Mcp3008(adc)
  every(100, () => log(`input 0 ${inputs.read(0)} V, water ${water.read()} C`))
})
