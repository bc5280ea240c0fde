"""What the API's views of all apps share: who may ask, what is read, and how it is answered."""
