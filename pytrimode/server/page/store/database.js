// The browser's IndexedDB: one record for each conversation, so that two tabs do not overwrite each other's.

const NAME = "pytrimode";
const STORE = "conversations";

let opened = null;

function open() {
  return (opened ??= new Promise((resolve, reject) => {
    const request = indexedDB.open(NAME, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: "id" });
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  }));
}

async function run(mode, action) {
  const database = await open();
  return new Promise((resolve, reject) => {
    const transaction = database.transaction(STORE, mode);
    const request = action(transaction.objectStore(STORE));
    transaction.oncomplete = () => resolve(request.result);
    transaction.onabort = () => reject(transaction.error);
  });
}

export const readAll = () => run("readonly", (store) => store.getAll());
export const readOne = (id) => run("readonly", (store) => store.get(id));
export const put = (record) => run("readwrite", (store) => store.put(record));
export const remove = (id) => run("readwrite", (store) => store.delete(id));
