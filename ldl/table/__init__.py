"""Tables of one's own: from a CSV or Parquet file to a trained net, and to its predictions.

    from ldl import table

    found = table.fit_table("iris.csv", target="species")
    print(found.scores)                                  # of rows that were held out
    found.model.save("iris.safetensors")
    table.TableModel.load("iris.safetensors").predict("new.csv")

`ldl train` and `ldl predict` are these from a shell. Files are read by pandas: `pip install
'ldl[table]'`. Numbers are scaled, texts become one column a category; what was learned of the
columns stands in the model's file beside the weights, so that predictions need nothing else.
"""

from ldl.table.errors import TableError
from ldl.table.files import Reading, read_table
from ldl.table.fitting import Settings, TableFit, fit_table
from ldl.table.model import TableModel

__all__ = ["Reading", "Settings", "TableError", "TableFit", "TableModel", "fit_table", "read_table"]
