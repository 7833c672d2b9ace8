// The probe (see probe.c) in Node.
import fs from "node:fs";
import os from "node:os";

function look(path) {
  let st;
  try {
    st = fs.lstatSync(path, { bigint: true });
  } catch (error) {
    return `${path} errno ${-error.errno}`;
  }
  let line = `${path} ${st.mode.toString(8)} ${st.uid} ${st.gid} ${st.size} ${st.mtimeNs} ${st.ino} ${st.nlink}`;
  if (st.isSymbolicLink()) {
    line += ` -> ${fs.readlinkSync(path)}`;
    try {
      st = fs.statSync(path, { bigint: true });
    } catch {
      return line;
    }
  }
  if (st.isFile()) line += ` = ${fs.readFileSync(path).toString("hex")}`;
  if (st.isDirectory()) line += ` : ${fs.readdirSync(path).sort().join(",")}`;
  return line;
}

for (const word of process.argv.slice(2)) {
  if (word.startsWith("$")) {
    const value = process.env[word.slice(1)];
    console.log(value === undefined ? `env ${word.slice(1)} unset` : `env ${word.slice(1)}=${value}`);
  } else if (word === "@host") {
    console.log("host", os.hostname());
  } else {
    console.log(look(word));
  }
}
