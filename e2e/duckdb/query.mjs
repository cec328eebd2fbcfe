// Runs SQL against DuckDB: standard input is a JSON array of queries, standard
// output one line of JSON for each, with its rows.
import { readFileSync, writeSync } from 'node:fs';
import { DuckDBInstance } from '@duckdb/node-api';

const instance = await DuckDBInstance.create(':memory:', { threads: '2' });
const connection = await instance.connect();
await connection.run("SET TimeZone = 'UTC'");
for (const sql of JSON.parse(readFileSync(0, 'utf8'))) {
  const reader = await connection.runAndReadAll(sql);
  let line = Buffer.from(JSON.stringify(reader.getRowObjectsJson()) + '\n');
  while (line.length > 0) {
    try {
      line = line.subarray(writeSync(1, line));
    } catch (e) {
      if (e.code !== 'EAGAIN') throw e;
    }
  }
}
