"Files that ship with the project; installed as `d2it_nb._assets`."
